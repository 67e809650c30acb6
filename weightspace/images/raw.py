"""What a source gives before preparation."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from weightspace.config import BadInput


@dataclass(frozen=True)
class Part:
    """Images with labels, as read."""

    pixels: UInt8[np.ndarray, "images channels height width"]
    labels: Int64[np.ndarray, " images"]
    """From 0."""

    def __post_init__(self) -> None:
        assert len(self.pixels) == len(self.labels)


@dataclass(frozen=True)
class RawImages:
    """All images of a source in the source's own order and size."""

    all: Part
    num_train: int | None
    """So many come from the source's own training part, and come first; None: it has no parts."""
    digests: Mapping[str, str]
    """SHA-256 of each file that was read, by name."""


def join_parts(train: Part, test: Part, digests: Mapping[str, str]) -> RawImages:
    """Put a source's own training and test parts behind one another.

    Raises:
        BadInput: a part is empty, or their images differ in shape.
    """
    counts = [len(part.labels) for part in (train, test)]
    if not all(counts):
        raise BadInput(
            f"{', '.join(digests)}: {counts[0]:,} training and {counts[1]:,} test images, wanted some of both"
        )
    shapes = [part.pixels.shape[1:] for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise BadInput(
            f"{', '.join(digests)}: training images of {shapes[0]}, test images of {shapes[1]}, wanted one "
            "(channels, height, width)"
        )
    pixels = np.concatenate([train.pixels, test.pixels])
    labels = np.concatenate([train.labels, test.labels])
    return RawImages(Part(pixels, labels), len(train.labels), digests)


def take_labels(values: np.ndarray, lowest: int, highest: int, where: Path | str) -> Int64[np.ndarray, " images"]:
    """Take the labels of a file as whole numbers, from where it counts them.

    Args:
        where: the file, as messages name it.

    Raises:
        BadInput: a label is no number, no whole one or out of bounds.
    """
    wanted = f"wanted whole numbers from {lowest} to {highest}"
    if values.dtype.kind not in "iuf":
        raise BadInput(f"{where}: labels of {values.dtype}, {wanted}")
    fine = (values >= lowest) & (values <= highest) & (values == np.floor(values))  # not-a-number fails all three
    if not fine.all():
        first = int(np.argmin(fine))
        raise BadInput(f"{where}: image {first} has the label {values[first]}, {wanted}")
    return values.astype(np.int64)


def hash_bytes(content: bytes) -> str:
    """Digest bytes as hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()
