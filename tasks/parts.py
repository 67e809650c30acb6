"""Make the parts of a stage, each once and anywhere: a part is a file, and one that is there is not made again."""

import functools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.images.image_set import PreparedImages, prepare_images, read_image_set
from weightspace.record import name_full_disk, read_record

logger = logging.getLogger(__name__)
RunAll = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], object]
"""Calls a function with each of some arguments, in any order and anywhere that sees the same folders."""
APPEAR_S = 120.0
"""How long a shared folder may take to show a file that another machine wrote."""


def run_in_turn(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call a function with each of some arguments, here and one after another; a flow may hand in another way."""
    for arguments in calls:
        function(*arguments)


def locate_work(root: Path, stage: str, name: str) -> Path:
    """Make the folder, an absolute path, in which an entry keeps its parts for the case that it is killed."""
    work = root.absolute() / "data" / ".work" / stage / name
    work.mkdir(parents=True, exist_ok=True)
    return work


def make_missing(
    make: Callable[..., Any], calls: Sequence[tuple[Any, ...]], paths: Sequence[Path], run_all: RunAll
) -> None:
    """Make the parts whose files are not there, and wait until all are seen.

    Args:
        calls: the arguments of `make` for each part, its file among them.

    Raises:
        BadInput: a file that a worker wrote is not seen here.
    """
    missing = [arguments for arguments, path in zip(calls, paths, strict=True) if not path.exists()]
    if len(missing) < len(calls):
        logger.info("%d of %d parts kept from an earlier run", len(calls) - len(missing), len(calls))
    if missing:
        run_all(make, missing)
    for path in paths:
        wait_for_file(path, APPEAR_S)


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


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a path to write a part to; whoever looks for the part sees the whole file or none.

    Raises:
        BadInput: the disk is full.
    """
    # Whoever is believed dead may still be at work on the same part: each writes to a folder of its own.
    with name_full_disk(path), tempfile.TemporaryDirectory(prefix=f".{path.stem[:8]}.", dir=path.parent) as scratch:
        yield Path(scratch) / path.name
        (Path(scratch) / path.name).replace(path)


def settle_device(name: str) -> str:
    """Decide `auto` once, by this machine, for all workers; a named device need not be on this one."""
    return resolve_device(name).type if name == "auto" else name


def check_digest(source: Path, digest: str) -> None:
    """Refuse an input that is not the one that the parts are planned for.

    Raises:
        BadInput: it is not there, or another.
    """
    found = read_record(source).digest
    if found != digest:
        what = source.parent.name
        raise BadInput(f"{source}: {what} {found[:12]} here, wanted {digest[:12]}: all workers must see the same data/")


@functools.lru_cache(maxsize=1)
def load_images(source: Path, digest: str, device: str) -> PreparedImages:
    """Read images for training, once for all parts that a process makes.

    Raises:
        BadInput: they are not there, or others than those of the digest.
    """
    check_digest(source, digest)
    return prepare_images(read_image_set(source), resolve_device(device))
