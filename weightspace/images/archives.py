"""Read files out of archives, or out of the folder they were unpacked to."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from weightspace.config import BadInput


def read_members(folder: Path, archive: str, names: Sequence[str]) -> list[bytes]:
    """Read some files, from the packed archive in a folder or else from where it was unpacked.

    Args:
        names: within the archive.

    Raises:
        BadInput: neither is there, a file is missing, or the archive is damaged.
    """
    path = folder / archive
    if path.is_file():
        contents = read_tar(path, names)
        return [contents[name] for name in names]
    return [find_unpacked(folder, archive, name).read_bytes() for name in names]


def find_unpacked(folder: Path, archive: str, name: str) -> Path:
    """Find an unpacked file below a folder, or directly in it.

    Raises:
        BadInput: it is in neither place.
    """
    for path in (folder / name, folder / Path(name).name):
        if path.is_file():
            return path
    raise BadInput(f"{folder / archive}: missing, wanted it there, or {name} unpacked from it")


def read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read some files of a tar archive in one pass, which ends when all are found.

    Raises:
        BadInput: the archive is damaged, or lacks one.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                file = archive.extractfile(member) if name in names else None
                if file is not None:
                    contents[name] = file.read()
                if len(contents) == len(names):
                    return contents
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadInput(f"{path}: damaged archive ({error}), wanted a whole one; it may be cut short") from error
    missing = [name for name in names if name not in contents]
    raise BadInput(f"{path}: has no {missing[0]}, wanted the archive as published")


def walk_files(folder: Path, archive: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Read files of a zip archive in a folder, or else of the folder and those below, in the order of their names.

    Args:
        suffixes: only files whose names end so.

    Yields:
        Each file's name with its folders, divided by `/`, and its content.

    Raises:
        BadInput: the archive is damaged.
    """
    path = folder / archive
    if not path.is_file():
        for file in sorted(file for file in folder.rglob("*") if file.name.endswith(suffixes)):
            yield file.relative_to(folder).as_posix(), file.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as files:
            for name in sorted(name for name in files.namelist() if name.endswith(suffixes)):
                yield name, files.read(name)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged archive ({error}), wanted a whole one; it may be cut short") from error
