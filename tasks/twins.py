"""Make sparse twins of a zoo: what is not yet made, shard by shard, and assemble the Parquet parts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.parts import RunAll, load_images, locate_work, make_missing, run_in_turn, settle_device
from tasks.zoo import assemble_zoo, locate_shard, write_shard
from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.networks import Architecture
from weightspace.record import name_full_disk, read_record
from weightspace.schema import TWINS_OF, TWINS_OF_DIGEST
from weightspace.twins.config import TwinsConfig
from weightspace.twins.parents import read_parents
from weightspace.twins.shards import TwinShard, plan_twins, train_twin_shard


def make_twins(name: str, config: TwinsConfig, root: Path, run_all: RunAll = run_in_turn) -> None:
    """Make the twins `name` as a zoo; shards that an earlier run finished are kept.

    Raises:
        BadInput: the zoo or its images are missing or damaged, or twins cannot be made of its networks.
    """
    data = root.absolute() / "data"
    zoo, source = data / "zoo" / config.zoo, data / "images" / config.images
    zoo_record, images_record = read_record(zoo), read_record(source)
    try:
        parents = read_parents(zoo, config, images_record.digest)
    except BadInput as error:
        raise BadInput(f"twins.{name}: {error}") from error
    shards = plan_twins(config, parents, zoo_record.digest)
    work = locate_work(root, "zoo", name)
    origin = {TWINS_OF: config.zoo, TWINS_OF_DIGEST: zoo_record.digest}
    about = {**parents.about, "recipe": config.model_dump(mode="json"), **origin}
    device = settle_device(config.device)
    common = (config, parents.architecture, zoo, source, images_record.digest, about, device)
    paths = [locate_shard(shard.digest, work) for shard in shards]
    calls = [(path, shard, *common) for path, shard in zip(paths, shards, strict=True)]
    make_missing(make_twin_shard, calls, paths, run_all)
    assemble_zoo(name, config, root, paths, {"zoo": zoo_record, "images": images_record}, device)


def make_twin_shard(
    path: Path,
    shard: TwinShard,
    config: TwinsConfig,
    architecture: Architecture,
    zoo: Path,
    source: Path,
    images_digest: str,
    about: dict[str, Any],
    device: str,
) -> None:
    """Make one shard and keep it, unless its file is there; needs nothing but folders that all workers see.

    Raises:
        BadInput: the images or the zoo are not those that the twins are planned for, the device is not there, or the
            disk is full.
    """
    if path.exists():
        return
    images = load_images(source, images_digest, device)
    with name_full_disk(path):
        checkpoints = train_twin_shard(shard, config, architecture, zoo, images, resolve_device(device), path.parent)
    write_shard(path, replace(checkpoints, about=about))
