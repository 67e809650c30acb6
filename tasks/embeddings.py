"""Make embeddings: read a weight data set and a hyper-representation, embed part by part, write."""

import functools
from collections.abc import Mapping
from pathlib import Path

from tasks.parts import (
    RunAll,
    check_digest,
    locate_work,
    make_missing,
    run_in_turn,
    settle_device,
    write_whole,
)
from weightspace.device import resolve_device
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embed import Embedder, name_layers, prepare_layouts, read_part, write_part
from weightspace.embeddings.embeddings import write_embeddings, write_kept, write_reconstruction
from weightspace.embeddings.health import measure_all_health, write_health
from weightspace.hyperrep.hyperrep import UNTRAINED_NAME, load_hyperreps
from weightspace.hyperrep.members import check_unseen, list_members
from weightspace.images.image_set import read_image_set
from weightspace.record import Record, digest_with_code, read_record, replace_folder, write_record
from weightspace.schema import SIDES
from weightspace.store import list_layouts
from weightspace.weights.weight_data import read_weight_data


def make_embeddings(name: str, config: EmbeddingsConfig, root: Path, run_all: RunAll = run_in_turn) -> None:
    """Embed every checkpoint of a weight data set that has not diverged; parts that an earlier run finished stay.

    Raises:
        BadInput: an input is missing or damaged, or they do not fit each other.
    """
    stages = ("weights", "hyperrep", "images") if config.kept_networks else ("weights", "hyperrep")
    sources = {stage: root.absolute() / "data" / stage / getattr(config, stage) for stage in stages}
    records = {stage: read_record(source) for stage, source in sources.items()}
    digests = {stage: records[stage].digest for stage in ("weights", "hyperrep")}
    device = settle_device(config.device)
    images = read_image_set(sources["images"]) if "images" in sources else None
    inputs = (
        config.model_dump_json(),
        sources["weights"],
        sources["hyperrep"],
        digests["weights"],
        digests["hyperrep"],
        device,
    )
    embedders, work = load_embedders(*inputs), locate_work(root, "embeddings", name)
    check_members(embedders, sources["hyperrep"], records["weights"])
    cuts = {layout: embedder.list_cuts() for layout, embedder in embedders.items()}
    decides = [config.model_dump(mode="json"), digests, device]
    paths = {
        layout: [work / f"{digest_with_code([layout, cut, cuts[layout].step, *decides])}.npz" for cut in some]
        for layout, some in cuts.items()
    }
    calls = [
        (path, layout, cut, *inputs)
        for layout, some in cuts.items()
        for path, cut in zip(paths[layout], some, strict=True)
    ]
    make_missing(make_part, calls, [path for path, *_ in calls], run_all)
    embedded = {
        layout: embedder.join([read_part(path) for path in paths[layout]], images)
        for layout, embedder in embedders.items()
    }
    name_layers(embedded)
    with replace_folder(root / "data" / "embeddings" / name) as folder:
        embeddings = {layout: part.embeddings for layout, part in embedded.items()}
        write_embeddings(folder, embeddings)
        write_reconstruction(folder, [part.errors for part in embedded.values()])
        write_health(folder, measure_all_health(embeddings))
        if kept := [part.kept for part in embedded.values() if part.kept is not None]:
            write_kept(folder, kept)
        write_record(folder, "embeddings", name, config, records, device.partition(":")[0])


def check_members(embedders: Mapping[str, Embedder], hyperrep: Path, weights: Record) -> None:
    """Make sure that no member counts as unseen that the model has seen.

    Raises:
        BadInput: some do.
    """
    members = list_members([(one.kept.table, one.kept.about) for one in embedders.values()], weights, SIDES)
    learned = next(iter(embedders.values())).hyperrep.config.weights
    check_unseen(hyperrep, members, learned, weights.name)


def make_part(
    path: Path,
    layout: str,
    cut: int,
    said: str,
    weights: Path,
    hyperrep: Path,
    weights_digest: str,
    hyperrep_digest: str,
    device: str,
) -> None:
    """Embed one part and keep it, unless its file is there; needs nothing but folders that all workers see.

    Args:
        cut: number of the first of its checkpoints.
        said: the configuration, in JSON.

    Raises:
        BadInput: an input is not the one that the parts are planned for, or the device is not there.
    """
    if path.exists():
        return
    embedders = load_embedders(said, weights, hyperrep, weights_digest, hyperrep_digest, device)
    with write_whole(path) as unfinished:
        write_part(unfinished, embedders[layout].embed(cut))


@functools.lru_cache(maxsize=1)
def load_embedders(
    said: str, weights: Path, hyperrep: Path, weights_digest: str, hyperrep_digest: str, device: str
) -> Mapping[str, Embedder]:
    """Read models and weights, once for all parts that a process embeds; `said` is the configuration, in JSON.

    Raises:
        BadInput: an input is missing or damaged or another than that of the digest, or they do not fit each other.
    """
    check_digest(weights, weights_digest)
    check_digest(hyperrep, hyperrep_digest)
    config, on = EmbeddingsConfig.model_validate_json(said), resolve_device(device)
    hyperreps = load_hyperreps(hyperrep, on)
    untrained = load_hyperreps(hyperrep, on, UNTRAINED_NAME) if config.untrained_baseline else None
    data = {layout: read_weight_data(weights, layout) for layout in list_layouts(weights)}
    return prepare_layouts(data, hyperreps, untrained, config)
