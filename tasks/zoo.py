"""Make a zoo: train what is not yet trained, shard by shard, and assemble the Parquet parts."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.parts import RunAll, load_images, locate_work, make_missing, run_in_turn, settle_device, write_whole
from weightspace.config import Config
from weightspace.device import resolve_device
from weightspace.images.image_set import read_image_set
from weightspace.record import Record, name_full_disk, read_record, replace_folder, write_record
from weightspace.store import Checkpoints, write_part
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import Network
from weightspace.zoo.members import choose_architecture
from weightspace.zoo.shards import Shard, count_after, plan_shards, settle_zoo, train_shard
from weightspace.zoo.train import check_images


def make_zoo(name: str, config: ZooConfig, root: Path, run_all: RunAll = run_in_turn) -> None:
    """Train the zoo `name` on its images; shards that an earlier run finished are kept.

    They stay when the zoo is made: whoever keeps the zoo may lose it before it has it, and then asks for it again.
    """
    source = root / "data" / "images" / config.images
    images_record = read_record(source)
    image_set = read_image_set(source)
    architecture = choose_architecture(config.architecture, image_set.shape, image_set.num_classes)
    check_images(architecture, image_set, config.images)
    device = settle_device(config.device)
    config = settle_zoo(config, architecture, device)
    shards = plan_shards(config, architecture, images_record.digest)
    work = locate_work(root, "zoo", name)
    about = describe_zoo(config, architecture, images_record)
    common = (config, architecture, source.absolute(), images_record.digest, about, device)
    paths = [locate_shard(shard.digest, work) for shard in shards]
    shards = count_after(shards, [path.exists() for path in paths])
    calls = [(path, shard, *common) for path, shard in zip(paths, shards, strict=True)]
    make_missing(make_shard, calls, paths, run_all)
    assemble_zoo(name, config, root, paths, {"images": images_record}, device)


def locate_shard(digest: str, work: Path) -> Path:
    """Say where a finished shard is kept."""
    return work / f"{digest}.parquet"


def describe_zoo(config: ZooConfig, architecture: Network, images: Record) -> dict[str, Any]:
    """Say what all checkpoints of a zoo share."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "images": {"name": images.name, "digest": images.digest},
        "recipe": config.model_dump(mode="json"),
    }


def make_shard(
    path: Path,
    shard: Shard,
    config: ZooConfig,
    architecture: Network,
    source: Path,
    images_digest: str,
    about: dict[str, Any],
    device: str,
) -> None:
    """Train one shard and keep it, unless its file is there; needs nothing but folders that all workers see.

    Raises:
        BadInput: the images are not those that the zoo is planned for, the device is not there, or the disk is full.
    """
    if path.exists():
        return
    images = load_images(source, images_digest, device)
    with name_full_disk(path):
        checkpoints = train_shard(shard, config, architecture, images, resolve_device(device), path.parent)
    write_shard(path, replace(checkpoints, about=about))


def write_shard(path: Path, checkpoints: Checkpoints) -> None:
    """Write a finished shard.

    Raises:
        BadInput: the disk is full.
    """
    with write_whole(path) as unfinished:
        write_part(unfinished, checkpoints)


def assemble_zoo(
    name: str, config: Config, root: Path, paths: list[Path], inputs: Mapping[str, Record], device: str
) -> None:
    """Put the finished shards in place as the parts of the zoo."""
    target = root / "data" / "zoo" / name
    with replace_folder(target) as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, folder / f"part-{number:05d}.parquet")
        write_record(folder, "zoo", name, config, inputs, device.partition(":")[0])
