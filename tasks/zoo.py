"""Make a zoo: train what is not yet trained, shard by shard, and assemble the Parquet parts."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from weightspace.device import resolve_device
from weightspace.images.image_set import ImageSet, prepare_images, read_image_set
from weightspace.record import Record, read_record, replace_folder, write_record
from weightspace.store import write_part
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import Network
from weightspace.zoo.members import choose_architecture
from weightspace.zoo.shards import Shard, plan_shards, train_shard
from weightspace.zoo.train import check_images

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


def observe_nothing(function: Function) -> Function:
    """Leave a function as it is; a flow hands in what turns it into a task."""
    return function


def make_zoo(
    name: str, config: ZooConfig, root: Path, step: Callable[[Callable[..., Any]], Callable[..., Any]] = observe_nothing
) -> None:
    """Train the zoo `name` on its images; shards that an earlier run finished are kept.

    They stay when the zoo is made: whoever keeps the zoo may lose it before it has it, and then asks for it again.
    """
    source = root / "data" / "images" / config.images
    images_record = read_record(source)
    image_set = read_image_set(source)
    architecture = choose_architecture(config.architecture, image_set.shape, image_set.num_classes)
    check_images(architecture, image_set, config.images)
    shards = plan_shards(config, architecture, images_record.digest)
    work = root / "data" / ".work" / "zoo" / name
    work.mkdir(parents=True, exist_ok=True)
    about = describe_zoo(config, architecture, images_record)
    run = step(make_shard)
    paths = [run(shard, config, architecture, image_set, about, work) for shard in shards]
    assemble_zoo(name, config, root, paths, images_record)


def describe_zoo(config: ZooConfig, architecture: Network, images: Record) -> dict[str, Any]:
    """Say what all checkpoints of a zoo share."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "images": {"name": images.name, "digest": images.digest},
        "recipe": config.model_dump(mode="json"),
    }


def make_shard(
    shard: Shard,
    config: ZooConfig,
    architecture: Network,
    image_set: ImageSet,
    about: dict[str, Any],
    work: Path,
) -> Path:
    """Train one shard unless its file is there; returns the file."""
    path = work / f"{shard.digest}.parquet"
    if path.exists():
        logger.info("shard %d: kept from an earlier run", shard.number)
        return path
    device = resolve_device(config.device)
    checkpoints = train_shard(shard, config, architecture, prepare_images(image_set, device), device)
    write_part(path, replace(checkpoints, about=about))
    return path


def assemble_zoo(name: str, config: ZooConfig, root: Path, paths: list[Path], images: Record) -> None:
    """Put the finished shards in place as the parts of the zoo."""
    target = root / "data" / "zoo" / name
    with replace_folder(target) as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, folder / f"part-{number:05d}.parquet")
        write_record(folder, "zoo", name, config, {"images": images}, resolve_device(config.device).type)
