"""Read files out of a folder, a zip or a tar archive, in place and one after another."""

import hashlib
import os
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

from weightspace.config import BadInput
from weightspace.record import hash_file

SPOOL_BYTES = 4 * 2**20
"""A larger file of a tar archive waits on disk, not in memory, until it is read."""
CHUNK_BYTES = 2**20
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    ValueError,  # names that are no UTF-8
    ArithmeticError,
    struct.error,
    RuntimeError,  # encrypted, or (NotImplementedError) packed in a way that is not supported
)
MAGIC_OF_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class Entry:
    """A file of a source."""

    name: str
    """Relative, divided by `/`."""
    size: int
    read: Callable[[], bytes]


class Source:
    """A folder or archive that is read once, from the first file to the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind = find_kind(path)
        self.listing = hashlib.sha256()
        self.num_files = 0
        self.sha256: str | None = None

    def entries(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        """Yield the files whose names are wanted; those of one folder follow one another.

        Raises:
            BadInput: the archive is damaged, or a name in it leads outside of it.
        """
        walk = {"folder": walk_folder, "zip": walk_zip, "tar": self.walk_tar}[self.kind]
        for entry in walk(self.path, wanted):
            self.num_files += 1
            self.listing.update(f"{entry.name}\0{entry.size}\n".encode())
            yield entry

    def walk_tar(self, path: Path, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        """Yield files of a tar archive in one pass, which also digests it."""
        with path.open("rb") as file:
            reader = HashingReader(file)
            yield from walk_stream(path, reader, wanted)
            reader.drain()
        if not reader.head.startswith(MAGIC_OF_PACKED) and reader.tail.strip(b"\0"):
            raise BadInput(f"{path}: has no end mark, wanted a whole tar archive; it may be cut short")
        self.sha256 = reader.hash.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Say what was read; a folder is known by its files' names and sizes, an archive by its content."""
        if self.kind == "zip":
            self.sha256 = hash_file(self.path)
        known = {"listing_sha256": self.listing.hexdigest()} if self.kind == "folder" else {"sha256": self.sha256}
        return {"kind": self.kind, "files": self.num_files, **known}


class HashingReader:
    """Pass on what a file holds, and digest it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.head = self.tail = b""

    def read(self, size: int) -> bytes:
        """Read the next bytes."""
        content = self.file.read(size)
        self.hash.update(content)
        self.head = self.head or content[:8]
        self.tail = (self.tail + content)[-1024:]
        return content

    def drain(self) -> None:
        """Read what is left."""
        while self.read(CHUNK_BYTES):
            pass


def find_kind(path: Path) -> str:
    """Tell whether a path is a `folder`, a `zip` or a `tar` archive.

    Raises:
        BadInput: it is none of these.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted a zoo to import")
    try:
        # First, since a tar archive that ends with a torch file looks like a zip archive from behind.
        if tarfile.is_tarfile(path):
            return "tar"
        if zipfile.is_zipfile(path):
            return "zip"
    except DAMAGE as error:
        raise BadInput(f"{path}: damaged archive ({error}), wanted a whole one; it may be cut short") from error
    raise BadInput(f"{path}: neither a folder nor a whole zip or tar archive; it may be cut short")


def check_name(path: Path, name: str) -> str:
    """Return the relative name of an archive's member.

    Raises:
        BadInput: it leads outside of the archive.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in plain.split("/"):
        raise BadInput(f"{path}: its member {name!r} leads outside of the archive, wanted relative names")
    return plain.removeprefix("./")


def walk_folder(path: Path, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Yield files below a folder, folder after folder."""
    for place, folders, files in os.walk(path, followlinks=True):
        folders.sort()
        for file in sorted(Path(place) / name for name in files):
            name = file.relative_to(path).as_posix()
            if wanted(name):
                yield Entry(name, file.stat().st_size, file.read_bytes)


def walk_zip(path: Path, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Yield files of a zip archive, read in place when asked for."""
    try:
        archive = zipfile.ZipFile(path)  # stays open for the entries that read from it
    except DAMAGE as error:
        raise BadInput(f"{path}: damaged archive ({error}), wanted a whole one; it may be cut short") from error
    infos = [(check_name(path, info.filename), info) for info in archive.infolist() if not info.is_dir()]
    for name, info in sorted(infos, key=lambda pair: pair[0]):
        if wanted(name):
            yield Entry(name, info.file_size, partial(read_zipped, path, archive, info))


def read_zipped(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read one member of a zip archive."""
    try:
        return archive.read(info)
    except DAMAGE as error:
        raise BadInput(f"{path}: its member {info.filename!r} cannot be read ({error}); it may be damaged") from error


def walk_stream(path: Path, reader: HashingReader, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Yield files of a tar archive; each can be read for as long as its entry is kept."""
    try:
        # A stream needs nothing of a file but `read`.
        with tarfile.open(fileobj=reader, mode="r|*") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
            for member in archive:
                name = check_name(path, member.name)
                if member.isdir() or not wanted(name):
                    continue
                if not member.isfile():
                    raise BadInput(f"{path}: its member {name!r} is a link or device, wanted files only")
                content = archive.extractfile(member)
                assert content is not None
                yield Entry(name, member.size, spool(content, member.size))
    except DAMAGE as error:
        raise BadInput(f"{path}: damaged archive ({error}), wanted a whole one; it may be cut short") from error


def spool(content: IO[bytes], size: int) -> Callable[[], bytes]:
    """Keep what a stream holds now, to be read later.

    Raises:
        EOFError: the stream ends early.
    """
    if size <= SPOOL_BYTES:
        small = content.read()
        if len(small) != size:
            raise EOFError("a file ends early")
        return lambda: small
    kept = DiskSpool()
    copied = 0
    while chunk := content.read(CHUNK_BYTES):
        copied += kept.file.write(chunk)
    if copied != size:
        raise EOFError("a file ends early")
    return kept.read


class DiskSpool:
    """A nameless file on disk that goes with what reads it."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def read(self) -> bytes:
        """Read all of it."""
        self.file.seek(0)
        return self.file.read()

    def __del__(self) -> None:
        self.file.close()
