"""Read USPS digits from LIBSVM's files."""

import bz2
from io import BytesIO
from pathlib import Path

import numpy as np

from weightspace.config import BadInput
from weightspace.images.raw import Part, RawImages, hash_bytes, join_parts, take_labels

NAMES = ("usps.bz2", "usps.t.bz2")
SIDE = 16


def read_usps(folder: Path) -> RawImages:
    """Read `usps.bz2` and `usps.t.bz2`, or the same decompressed.

    Raises:
        BadInput: a file is missing or damaged.
    """
    (train, train_digest), (test, test_digest) = (read_part(folder, name) for name in NAMES)
    names = [name.removesuffix(".bz2") for name in NAMES]
    return join_parts(train, test, dict(zip(names, (train_digest, test_digest), strict=True)))


def read_part(folder: Path, name: str) -> tuple[Part, str]:
    """Read images, whose values from -1 to 1 become 0 to 255, and labels from 1, with the digest of the content.

    Rounds down, as the public loaders do.

    Raises:
        BadInput: the file is missing or damaged, or has a value or label that no digit has.
    """
    from sklearn.datasets import load_svmlight_file  # takes as long to import as torch

    path, content = read_bz2(folder, name)
    try:
        values, labels = load_svmlight_file(BytesIO(content), n_features=SIDE**2)[:2]
    except ValueError as error:
        raise BadInput(f"{path}: cannot be read as LIBSVM text of {SIDE**2} features ({error})") from error
    dense = np.asarray(values.toarray())
    fine = np.abs(dense) <= 1  # which not-a-number is not
    if not fine.all():
        raise BadInput(f"{path}: has the value {dense[~fine][0]}, wanted -1 to 1")
    pixels = ((dense + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    return Part(pixels, take_labels(np.asarray(labels), 1, 10, path) - 1), hash_bytes(content)


def read_bz2(folder: Path, name: str) -> tuple[Path, bytes]:
    """Read a file's decompressed content; it may lie there decompressed.

    Raises:
        BadInput: it is missing, damaged or cut short.
    """
    path, plain = folder / name, folder / name.removesuffix(".bz2")
    if not path.is_file() and plain.is_file():
        return plain, plain.read_bytes()
    try:
        return path, bz2.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"{path}: missing, wanted it there, or {plain.name}") from error
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path}: damaged bz2 ({error}), wanted a whole file; it may be cut short") from error
