"""Download published files, checked, and keep them."""

import http.client
import logging
import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from weightspace.config import BadInput
from weightspace.images.idx import read_content
from weightspace.images.published import KnownFile, KnownSet
from weightspace.images.raw import hash_bytes
from weightspace.record import hash_file

logger = logging.getLogger(__name__)
TIMEOUT_S = 30
CHUNK_BYTES = 1 << 20
LOG_EVERY_S = 10


def download_set(known: KnownSet, folder: Path, mirrors: Sequence[str]) -> dict[str, Path]:
    """Make sure a folder has all files of a published set; say where each is, by its published name.

    Args:
        mirrors: addresses tried before the public ones.

    Raises:
        BadInput: a file is not there and no mirror gave it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {file.name: obtain_file(file, folder, (*mirrors, *known.mirrors)) for file in known.files}


def obtain_file(known: KnownFile, folder: Path, mirrors: Sequence[str]) -> Path:
    """Find a file in a folder, or download it from the first mirror that has it whole.

    Raises:
        BadInput: neither; the message says where to put it by hand.
    """
    failures = []
    names = (known.name, known.name.removesuffix(".gz")) if known.of_content else (known.name,)
    for path in (folder / name for name in names):
        if path.is_file():
            failure = describe_difference(path, known)
            if failure is None:
                return path
            logger.warning("%s: %s; downloading it again", path, failure)
            failures.append(f"{path}: {failure}")
    target = folder / known.name
    for address in (join_address(mirror, known.name) for mirror in mirrors):
        failure = download_file(address, target, known)
        if failure is None:
            return target
        logger.warning("%s: %s", address, failure)
        failures.append(f"{address}: {failure}")
    raise BadInput(f"{target}: could not be downloaded; put the published file there by hand. {'; '.join(failures)}")


def join_address(mirror: str, name: str) -> str:
    """Put a file's name behind a mirror's address."""
    return f"{mirror.rstrip('/')}/{name}"


def describe_difference(path: Path, known: KnownFile) -> str | None:
    """Compare a file's content with what is published; None if it is that."""
    try:
        digest = hash_bytes(read_content(path)) if known.of_content else hash_file(path)
    except BadInput as error:
        return str(error)
    return None if digest == known.sha256 else f"its sha256 is {digest}, wanted {known.sha256}"


def download_file(url: str, target: Path, known: KnownFile) -> str | None:
    """Download a file under a temporary name, check it and give it its own name; None, or why that failed."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        copy_address(url, partial)
        failure = describe_difference(partial, known)
        if failure is None:
            partial.replace(target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError is what urllib raises for a mirror that is no address.
        failure = f"{type(error).__name__}: {error}"
    finally:
        partial.unlink(missing_ok=True)
    return failure


def copy_address(url: str, target: Path) -> None:
    """Copy what an address serves into a file, with progress in the log.

    Raises:
        OSError: it cannot be reached, or less came than was announced.
    """
    logger.info("downloading %s", url)
    logged = time.monotonic()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            if time.monotonic() - logged > LOG_EVERY_S:
                logged = time.monotonic()
                logger.info(
                    "downloading %s: %.0f of %s MB", url, file.tell() / 1e6, f"{size / 1e6:.0f}" if size else "?"
                )
        if size and file.tell() != size:
            raise OSError(f"{file.tell():,} bytes came of the {size:,} announced")
