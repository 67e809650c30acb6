"""Read CIFAR-10 and CIFAR-100 in their binary versions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weightspace.config import BadInput
from weightspace.images.archives import read_members
from weightspace.images.raw import Part, RawImages, hash_bytes, join_parts, take_labels

SHAPE = (3, 32, 32)
CIFAR10_FILES = tuple(
    f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)
CIFAR100_FILES = ("cifar-100-binary/train.bin", "cifar-100-binary/test.bin")


def read_cifar10(folder: Path) -> RawImages:
    """Read `cifar-10-binary.tar.gz`, or its files unpacked.

    Raises:
        BadInput: files are missing or damaged.
    """
    return read_records(folder, "cifar-10-binary.tar.gz", CIFAR10_FILES, num_labels=1, num_classes=10)


def read_cifar100(folder: Path) -> RawImages:
    """Read `cifar-100-binary.tar.gz`, or its files unpacked; the labels are the 100 fine ones.

    Raises:
        BadInput: files are missing or damaged.
    """
    return read_records(folder, "cifar-100-binary.tar.gz", CIFAR100_FILES, num_labels=2, num_classes=100)


def read_records(folder: Path, archive: str, names: Sequence[str], num_labels: int, num_classes: int) -> RawImages:
    """Read training files and a test file, the last, whose records start with so many labels, the finest last.

    Raises:
        BadInput: files are missing or damaged.
    """
    contents = read_members(folder, archive, names)
    parts = [
        parse_records(content, num_labels, num_classes, name) for content, name in zip(contents, names, strict=True)
    ]
    train = Part(
        np.concatenate([part.pixels for part in parts[:-1]]), np.concatenate([part.labels for part in parts[:-1]])
    )
    digests = {Path(name).name: hash_bytes(content) for name, content in zip(names, contents, strict=True)}
    return join_parts(train, parts[-1], digests)


def parse_records(content: bytes, num_labels: int, num_classes: int, name: str) -> Part:
    """Take images and labels out of records: labels, then the red, green and blue plane, a byte each.

    Raises:
        BadInput: the last record is cut short, or a label is none of the classes.
    """
    record = num_labels + int(np.prod(SHAPE))
    if not content or len(content) % record:
        raise BadInput(f"{name}: {len(content):,} bytes, wanted a multiple of {record:,}; it may be cut short")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = take_labels(records[:, num_labels - 1], 0, num_classes - 1, name)
    return Part(records[:, num_labels:].reshape(-1, *SHAPE), labels)
