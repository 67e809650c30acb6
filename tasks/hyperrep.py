"""Make hyper-representations: read a weight data set, train, write."""

from functools import partial
from pathlib import Path

import torch

from weightspace.device import resolve_device
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.hyperrep.hyperrep import LAST_NAME, UNTRAINED_NAME, save_hyperreps, write_tensors
from weightspace.hyperrep.members import list_members, write_members
from weightspace.hyperrep.ranks import ALONE, Ranks, train_in_processes
from weightspace.hyperrep.train import Trained, train_hyperrep
from weightspace.images.image_set import read_image_set
from weightspace.record import digest_with_code, read_record, replace_folder, write_record
from weightspace.store import list_layouts, read_table
from weightspace.weights.weight_table import open_weight_data

HISTORY_NAME = "history.parquet"


def make_hyperrep(name: str, config: HyperrepConfig, root: Path) -> None:
    """Train a hyper-representation; one that was killed goes on where it was, even at the very end.

    Raises:
        BadInput: an input is missing or damaged, or the configuration does not fit it.
    """
    stages = ("weights", "images") if config.loss.behaviour.kind != "none" else ("weights",)
    sources = {stage: root / "data" / stage / getattr(config, stage) for stage in stages}
    records = {stage: read_record(source) for stage, source in sources.items()}
    device = resolve_device(config.device)
    said = {"config": config.model_dump(mode="json"), "device": device.type}
    work = digest_with_code(said | {stage: record.digest for stage, record in records.items()})
    scratch = root / "data" / ".work" / "hyperrep" / name / work
    if config.training.processes > 1:
        train_in_processes(partial(train_rank, sources, config, scratch), config.training.processes, device, scratch)
    trained = train_rank(sources, config, scratch, device, ALONE)  # has nothing left to do where processes have learned
    tables = [read_table(sources["weights"], layout)[1:] for layout in list_layouts(sources["weights"])]
    members = list_members(tables, records["weights"], ("train", "val"))
    with replace_folder(root / "data" / "hyperrep" / name) as folder:
        save_hyperreps(folder, trained.hyperreps)
        write_tensors(folder / UNTRAINED_NAME, trained.untrained_model.state_dict())
        write_tensors(folder / LAST_NAME, trained.last_model.state_dict())
        trained.history.to_parquet(folder / HISTORY_NAME, index=False)
        write_members(folder, members)
        write_record(folder, "hyperrep", name, trained.config, records, device.type)


def train_rank(
    sources: dict[str, Path], config: HyperrepConfig, scratch: Path, device: torch.device, ranks: Ranks
) -> Trained:
    """Read the inputs and train, in one of several processes or alone."""
    images = read_image_set(sources["images"]) if "images" in sources else None
    weights = sources["weights"]
    data = {layout: open_weight_data(weights, layout) for layout in list_layouts(weights)}
    return train_hyperrep(data, config, scratch, device, images, ranks)
