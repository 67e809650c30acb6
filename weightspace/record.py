"""Keep beside every output a record of where it came from.

An output is a folder. Its `_record.json` says what made it, and the SHA-256 of every other file, so that a reader can
tell an altered or truncated file from a whole one. Nothing in it depends on the clock: same inputs, same bytes.
"""

import errno
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from safetensors import SafetensorError

from weightspace.config import BadInput, Config, digest_value

RECORD_NAME = "_record.json"
"""The underscore hides it from readers of the folder as a Parquet table."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with when there is no room: on the disk, in a quota, for so large a file."""
LIBRARIES = ("weightspace", "torch", "numpy", "pyarrow", "pandas", "scikit-learn", "numba")
PACKAGES = ("tasks", "weightspace")
"""Our code that decides results."""


class FileEntry(Config):
    """Size and digest of one file of an output."""

    bytes: int
    sha256: str


class Record(Config):
    """What an output is, and what it was made from."""

    stage: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    """Digest of each input's record, by `stage/name`."""
    libraries: dict[str, str]
    device: str
    files: dict[str, FileEntry]

    @property
    def digest(self) -> str:
        """SHA-256 that stands for the content of the whole output."""
        content = {name: entry.sha256 for name, entry in sorted(self.files.items())}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@functools.cache
def digest_code() -> str:
    """Digest what decides results besides their inputs: our code and the libraries' versions."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        folder = Path(__file__).parents[1] / package
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder.parent).as_posix()}\n".encode() + file.read_bytes())
    digest.update("".join(f"{library} {version(library)}\n" for library in LIBRARIES).encode())
    return digest.hexdigest()


def digest_with_code(value: Any) -> str:
    """Digest what decides something that is kept for the case of a kill: what JSON says of it, and the code.

    A stage whose code changed runs anew, and must not go on with what other code has left half done.
    """
    return digest_value([value, digest_code()])


def hash_file(path: Path) -> str:
    """Digest a file's bytes as hexadecimal SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> list[Path]:
    """List the files below a folder that a record covers, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_NAME)


def write_record(
    folder: Path, stage: str, name: str, config: Config, inputs: Mapping[str, Record], device: str = "cpu"
) -> Record:
    """Write the record of a finished output, made from `inputs` on a kind of `device`; call it last."""
    files = {
        str(path.relative_to(folder)): FileEntry(bytes=path.stat().st_size, sha256=hash_file(path))
        for path in list_files(folder)
    }
    record = Record(
        stage=stage,
        name=name,
        config=config.model_dump(mode="json"),
        inputs={f"{r.stage}/{r.name}": r.digest for r in inputs.values()},
        libraries={library: version(library) for library in LIBRARIES},
        device=device,
        files=files,
    )
    (folder / RECORD_NAME).write_text(record.model_dump_json(indent=1) + "\n")
    return record


def read_record(folder: Path) -> Record:
    """Read an output's record and check every file against it.

    Raises:
        BadInput: the output is missing, unfinished, or a file was removed, cut short, altered or added.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise BadInput(f"{folder}: no {RECORD_NAME} there, so no finished output; run the stage that makes it")
    try:
        record = Record.model_validate_json(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path}: not a whole record; restore it with `dvc checkout --force` or remake it") from error
    check_files(folder, record)
    return record


def check_files(folder: Path, record: Record) -> None:
    """Compare the files of an output with its record: each that it lists, and that there are no others.

    Readers take every part that they find. None takes a hidden file, such as DVC's `.gitignore`.

    Raises:
        BadInput: they differ.
    """
    for name, entry in record.files.items():
        check_file(folder / name, entry)
    for path in list_files(folder):
        name = path.relative_to(folder)
        if str(name) not in record.files and not any(part.startswith(".") for part in name.parts):
            raise BadInput(
                f"{path}: not in the record beside it, which lists {len(record.files)} other files; wanted those only: "
                "move it elsewhere, or remake the output if it belongs there"
            )


def check_file(path: Path, entry: FileEntry) -> None:
    """Compare a file with what its record says of it.

    Raises:
        BadInput: they differ.
    """
    advice = "the output was changed by hand or damaged; restore it with `dvc checkout --force` or remake it"
    if not path.is_file():
        raise BadInput(f"{path}: missing, though its record lists it; {advice}")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BadInput(f"{path}: {size} bytes, wanted {entry.bytes}; {advice}")
    if hash_file(path) != entry.sha256:
        raise BadInput(f"{path}: its content is not what its record lists; {advice}")


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the target's place when the block ends well, and vanishes when it does not.

    The folder stands beside the target until then, so an output is either the old one or the new one, never half.

    Raises:
        BadInput: the disk is full.
    """
    remove_leftovers(target)
    scratch, old = (target.with_name(f".{target.name}.{os.getpid()}{end}") for end in ("", ".old"))
    try:
        with name_full_disk(target):
            scratch.mkdir(parents=True)
            yield scratch
            if target.exists():
                target.rename(old)
            scratch.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def name_full_disk(target: Path) -> Iterator[None]:
    """Turn a write that failed for want of room into one line that names the output it was for."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors gives the number of an error in its text only.
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number not in FULL_DISK:
            raise
        why = os.strerror(number)
        raise BadInput(
            f"{target}: the disk is full ({why}); nothing new was kept there, and what was there before is whole"
        ) from error


def remove_leftovers(target: Path) -> None:
    """Remove what writers that were killed left beside a folder."""
    for path in target.parent.glob(".*.*"):
        name, _, pid = path.name.removesuffix(".old")[1:].rpartition(".")
        if name == target.name and pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(path)
