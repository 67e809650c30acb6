"""Read STL-10 in its binary version."""

from pathlib import Path

import numpy as np

from weightspace.config import BadInput
from weightspace.images.archives import read_members
from weightspace.images.raw import Part, RawImages, hash_bytes, join_parts, take_labels

SHAPE = (3, 96, 96)
NAMES = tuple(f"stl10_binary/{name}.bin" for name in ("train_X", "train_y", "test_X", "test_y"))


def read_stl10(folder: Path) -> RawImages:
    """Read the labelled images of `stl10_binary.tar.gz`, or its files unpacked.

    Raises:
        BadInput: files are missing or damaged.
    """
    contents = read_members(folder, "stl10_binary.tar.gz", NAMES)
    train, test = (parse_part(contents[i], contents[i + 1], NAMES[i], NAMES[i + 1]) for i in (0, 2))
    digests = {Path(name).name: hash_bytes(content) for name, content in zip(NAMES, contents, strict=True)}
    return join_parts(train, test, digests)


def parse_part(images: bytes, labels: bytes, name: str, labels_name: str) -> Part:
    """Take images, whose planes lie column by column, and labels from 1 out of a pair of files.

    Raises:
        BadInput: their sizes do not fit, or a label is none of the ten.
    """
    wanted = len(labels) * int(np.prod(SHAPE))
    if len(images) != wanted:
        raise BadInput(
            f"{name}: {len(images):,} bytes, wanted {wanted:,} for {len(labels):,} labels; it may be cut short"
        )
    columns = np.frombuffer(images, np.uint8).reshape(-1, *SHAPE)
    numbers = take_labels(np.frombuffer(labels, np.uint8), 1, 10, labels_name) - 1
    return Part(np.ascontiguousarray(columns.transpose(0, 1, 3, 2)), numbers)
