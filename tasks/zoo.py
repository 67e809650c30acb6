"""Make a zoo: train what is not yet trained, shard by shard, and assemble the Parquet parts."""

import functools
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weightspace.config import BadInput, Config
from weightspace.device import resolve_device
from weightspace.images.image_set import PreparedImages, prepare_images, read_image_set
from weightspace.record import Record, name_full_disk, read_record, replace_folder, write_record
from weightspace.store import Checkpoints, write_part
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import Network
from weightspace.zoo.members import choose_architecture
from weightspace.zoo.shards import Shard, plan_shards, train_shard
from weightspace.zoo.train import check_images

logger = logging.getLogger(__name__)
RunAll = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], object]
"""Calls a function with each of some arguments, in any order and anywhere that sees the same folders."""
APPEAR_S = 120.0
"""How long a shared folder may take to show a file that another machine wrote."""


def run_in_turn(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call a function with each of some arguments, here and one after another; a flow may hand in another way."""
    for arguments in calls:
        function(*arguments)


def make_zoo(name: str, config: ZooConfig, root: Path, run_all: RunAll = run_in_turn) -> None:
    """Train the zoo `name` on its images; shards that an earlier run finished are kept.

    They stay when the zoo is made: whoever keeps the zoo may lose it before it has it, and then asks for it again.
    """
    source = root / "data" / "images" / config.images
    images_record = read_record(source)
    image_set = read_image_set(source)
    architecture = choose_architecture(config.architecture, image_set.shape, image_set.num_classes)
    check_images(architecture, image_set, config.images)
    shards = plan_shards(config, architecture, images_record.digest)
    work = root.absolute() / "data" / ".work" / "zoo" / name
    work.mkdir(parents=True, exist_ok=True)
    about = describe_zoo(config, architecture, images_record)
    device = settle_device(config.device)
    common = (config, architecture, source.absolute(), images_record.digest, about, device, work)
    paths = [locate_shard(shard.digest, work) for shard in shards]
    make_missing(make_shard, [(shard, *common) for shard in shards], paths, run_all)
    assemble_zoo(name, config, root, paths, {"images": images_record}, device)


def make_missing(
    make: Callable[..., Any], calls: Sequence[tuple[Any, ...]], paths: Sequence[Path], run_all: RunAll
) -> None:
    """Make the shards whose files are not there, and wait until all are seen.

    Args:
        calls: the arguments of `make` for each shard.

    Raises:
        BadInput: a file that a worker wrote is not seen here.
    """
    missing = [arguments for arguments, path in zip(calls, paths, strict=True) if not path.exists()]
    if len(missing) < len(calls):
        logger.info("%d of %d shards kept from an earlier run", len(calls) - len(missing), len(calls))
    if missing:
        run_all(make, missing)
    for path in paths:
        wait_for_file(path, APPEAR_S)


def settle_device(name: str) -> str:
    """Decide `auto` once, by this machine, for all who train; a named device need not be on this one."""
    return resolve_device(name).type if name == "auto" else name


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
    shard: Shard,
    config: ZooConfig,
    architecture: Network,
    source: Path,
    images_digest: str,
    about: dict[str, Any],
    device: str,
    work: Path,
) -> None:
    """Train one shard and keep it, unless its file is there; needs nothing but folders that all workers see.

    Raises:
        BadInput: the images are not those that the zoo is planned for, or the device is not there.
    """
    path = locate_shard(shard.digest, work)
    if path.exists():
        return
    images = load_images(source, images_digest, device)
    checkpoints = train_shard(shard, config, architecture, images, resolve_device(device))
    write_shard(path, replace(checkpoints, about=about))


def write_shard(path: Path, checkpoints: Checkpoints) -> None:
    """Write a finished shard; whoever looks for it sees the whole file or none.

    Raises:
        BadInput: the disk is full.
    """
    # Whoever is believed dead may still be at work on the same shard: each writes to a folder of its own.
    with name_full_disk(path), tempfile.TemporaryDirectory(prefix=f".{path.stem[:8]}.", dir=path.parent) as scratch:
        write_part(Path(scratch) / path.name, checkpoints)
        (Path(scratch) / path.name).replace(path)


@functools.lru_cache(maxsize=1)
def load_images(source: Path, digest: str, device: str) -> PreparedImages:
    """Read images for training, once for all shards that a process trains.

    Raises:
        BadInput: they are not there, or others than those of the digest.
    """
    found = read_record(source).digest
    if found != digest:
        raise BadInput(f"{source}: images {found[:12]} here, wanted {digest[:12]}: all workers must see the same data/")
    return prepare_images(read_image_set(source), resolve_device(device))


def wait_for_file(path: Path, limit_s: float) -> None:
    """Wait until a file that another machine wrote is seen here.

    Raises:
        BadInput: it is not.
    """
    deadline = time.monotonic() + limit_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise BadInput(f"{path}: written by a worker but not seen here; all workers must share the folder data/")
        time.sleep(0.5)


def assemble_zoo(
    name: str, config: Config, root: Path, paths: list[Path], inputs: Mapping[str, Record], device: str
) -> None:
    """Put the finished shards in place as the parts of the zoo."""
    target = root / "data" / "zoo" / name
    with replace_folder(target) as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, folder / f"part-{number:05d}.parquet")
        write_record(folder, "zoo", name, config, inputs, device.partition(":")[0])
