"""Read files in MNIST's IDX format, gzipped or not."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from weightspace.config import BadInput
from weightspace.images.raw import Part, RawImages, hash_bytes, join_parts

IDX_NAMES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
GZIP_MAGIC = b"\x1f\x8b"
UINT8_CODE = 8


def find_idx(folder: Path, name: str) -> Path:
    """Find an IDX file, gzipped or not; some copies have a dot for the dash before `idx`.

    Raises:
        BadInput: the folder has none of these names.
    """
    names = [name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise BadInput(f"{folder / name}: missing, wanted it there or under the name {', '.join(names[1:])}")


def read_content(path: Path) -> bytes:
    """Read a file, decompressed if it starts as gzip does, whatever it is called.

    Raises:
        BadInput: the file cannot be read, or is gzip that is damaged or cut short.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{path}: damaged gzip ({error}), wanted a whole file; it may be cut short") from error


def parse_idx(content: bytes, num_axes: int, path: Path) -> UInt8[np.ndarray, "..."]:
    """Take the array out of an IDX file's bytes.

    Source: format description on the MNIST page: two zero bytes, a type code, the number of axes, each axis's length
    as a big-endian 32-bit integer, then the values, last axis fastest.

    Raises:
        BadInput: another file type, another number of axes, or fewer or more values than the header says.
    """
    magic = bytes([0, 0, UINT8_CODE, num_axes])
    if content[:4] != magic:
        raise BadInput(f"{path}: starts with bytes {content[:4].hex(' ')}, wanted {magic.hex(' ')} (IDX of bytes)")
    start = 4 + 4 * num_axes
    if len(content) < start:
        raise BadInput(f"{path}: {len(content)} bytes, wanted a header of {start}; it may be cut short")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", num_axes, 4))
    wanted = start + math.prod(shape)
    if len(content) != wanted:
        raise BadInput(
            f"{path}: {len(content):,} bytes (decompressed), wanted {wanted:,} for the {shape} its header says; "
            "it may be cut short"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_part(images_path: Path, labels_path: Path) -> tuple[Part, list[str]]:
    """Read images and their labels, with the digests of both files' decompressed content.

    Raises:
        BadInput: a file is missing, damaged or of another kind, or the counts differ.
    """
    contents = [read_content(path) for path in (images_path, labels_path)]
    images = parse_idx(contents[0], 3, images_path)
    labels = parse_idx(contents[1], 1, labels_path)
    if len(images) != len(labels):
        raise BadInput(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}")
    return Part(images[:, None], labels.astype(np.int64)), [hash_bytes(content) for content in contents]


def read_idx(paths: Sequence[Path]) -> RawImages:
    """Read the files of an image set in MNIST's format, in the order of `IDX_NAMES`.

    Raises:
        BadInput: a file is missing or is not what its name says.
    """
    train, train_digests = read_part(paths[0], paths[1])
    test, test_digests = read_part(paths[2], paths[3])
    return join_parts(train, test, dict(zip(IDX_NAMES, train_digests + test_digests, strict=True)))
