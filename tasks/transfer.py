"""Make transfer curves: read samples, members and images, train on part by part, write."""

import functools
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tasks.parts import (
    RunAll,
    check_digest,
    load_images,
    locate_work,
    make_missing,
    run_in_turn,
    settle_device,
    write_whole,
)
from weightspace.device import resolve_device
from weightspace.embeddings.scores import read_architecture
from weightspace.images.image_set import read_image_set
from weightspace.networks import Architecture
from weightspace.record import digest_with_code, read_record, replace_folder, write_record
from weightspace.samples.sample_store import read_samples
from weightspace.transfer.config import TransferConfig
from weightspace.transfer.curves import compare_rates, plan_runs, train_runs, write_transfer
from weightspace.transfer.starts import Starts, gather_starts
from weightspace.weights.weight_data import read_weight_data
from weightspace.zoo.train import check_images

INPUTS = ("samples", "weights", "images")
PART_SIZE = 256
"""Networks that are trained together. Fixed, since where the cuts lie must not follow from who trains the parts."""


def make_transfer(name: str, config: TransferConfig, root: Path, run_all: RunAll = run_in_turn) -> None:
    """Train samples and everything they must be seen beside on an image set; parts that an earlier run finished stay.

    Raises:
        BadInput: an input is missing or damaged, or some do not fit each other.
    """
    sources = {stage: root.absolute() / "data" / stage / getattr(config, stage) for stage in INPUTS}
    records = {stage: read_record(source) for stage, source in sources.items()}
    digests = {stage: record.digest for stage, record in records.items()}
    device = settle_device(config.device)
    architecture, starts = load_starts(
        config.model_dump_json(), sources["samples"], sources["weights"], digests["samples"], digests["weights"]
    )
    check_images(architecture, read_image_set(sources["images"]), config.images)
    runs, work = plan_runs(config, starts), locate_work(root, "transfer", name)
    cuts = range(0, len(runs), PART_SIZE)
    decides = [config.model_dump(mode="json"), digests, device]
    paths = [work / f"{digest_with_code([cut, PART_SIZE, *decides])}.parquet" for cut in cuts]
    calls = [(path, cut, config, sources, digests, device) for path, cut in zip(paths, cuts, strict=True)]
    make_missing(make_curves, calls, paths, run_all)
    tables = compare_rates(config, pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True))
    with replace_folder(root / "data" / "transfer" / name) as folder:
        write_transfer(folder, tables)
        write_record(folder, "transfer", name, config, records, device.partition(":")[0])


def make_curves(
    path: Path,
    cut: int,
    config: TransferConfig,
    sources: Mapping[str, Path],
    digests: Mapping[str, str],
    device: str,
) -> None:
    """Train one part and keep its curves, unless its file is there; needs nothing but folders that all workers see.

    Args:
        cut: number of the first of its runs.

    Raises:
        BadInput: an input is not the one that the parts are planned for, or the device is not there.
    """
    if path.exists():
        return
    images = load_images(sources["images"], digests["images"], device)
    architecture, starts = load_starts(
        config.model_dump_json(), sources["samples"], sources["weights"], digests["samples"], digests["weights"]
    )
    runs = plan_runs(config, starts).iloc[cut : cut + PART_SIZE]
    curves = train_runs(config, architecture, starts, runs, images, resolve_device(device))
    with write_whole(path) as unfinished:
        curves.to_parquet(unfinished, compression="zstd", index=False)


@functools.lru_cache(maxsize=1)
def load_starts(
    said: str, samples: Path, weights: Path, samples_digest: str, weights_digest: str
) -> tuple[Architecture, Starts]:
    """Gather what training starts from, once for all parts that a process trains; `said` is the configuration, in JSON.

    Raises:
        BadInput: an input is missing or damaged or another than that of the digest, or they do not fit each other.
    """
    check_digest(samples, samples_digest)
    check_digest(weights, weights_digest)
    config, data = TransferConfig.model_validate_json(said), read_weight_data(weights)
    architecture = read_architecture(data.checkpoints, config.weights)
    return architecture, gather_starts(config, data, read_samples(samples))
