"""Image sets: images with labels and a fixed split, on disk and ready for training."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32, Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weightspace.config import BadInput

SPLITS = ("train", "val", "test")
FILE_NAME = "images.safetensors"
TENSORS = ("images", "labels", "rows", "mean", "std")


@dataclass(frozen=True)
class PreparedImages:
    """Normalised images with labels, one pair of tensors a split."""

    train: Float32[Tensor, "train channels height width"]
    train_labels: Int64[Tensor, " train"]
    val: Float32[Tensor, "val channels height width"]
    val_labels: Int64[Tensor, " val"]
    test: Float32[Tensor, "test channels height width"]
    test_labels: Int64[Tensor, " test"]


@dataclass(frozen=True)
class ImageSet:
    """The images of a set, with the split and what normalises them as data."""

    images: UInt8[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"]
    """From 0 to `num_classes - 1`, each present."""
    split: dict[str, Int64[Tensor, " part"]]
    """Indices of the images of `train`, `val` and `test`; the first of a part are a fair sample of it."""
    mean: Float32[Tensor, " channels"]
    """Of pixels scaled to 0 to 1."""
    std: Float32[Tensor, " channels"]
    """Of pixels scaled to 0 to 1."""
    rows: Int64[Tensor, " images"]
    """Where each image stands in its source, whose own training part comes first."""
    source: dict[str, str]
    """SHA-256 of each file that was read, decompressed where it was gzipped."""

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return int(self.labels.max()) + 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def write_image_set(folder: Path, image_set: ImageSet) -> None:
    """Write an image set into a folder that exists."""
    tensors = {name: getattr(image_set, name) for name in TENSORS} | image_set.split
    # One key only: safetensors writes several in any order, and equal sets have equal bytes.
    save_file(tensors, folder / FILE_NAME, metadata={"source": json.dumps(image_set.source, sort_keys=True)})


def read_image_set(folder: Path) -> ImageSet:
    """Read an image set.

    Raises:
        BadInput: the file is missing, cut short or no image set.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted an image set; run the images stage that makes it")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in (*TENSORS, *SPLITS)}
            source = json.loads(file.metadata()["source"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read as an image set ({error}); it may be cut short") from error
    split = {name: tensors.pop(name) for name in SPLITS}
    return ImageSet(**tensors, split=split, source=source)


def prepare_images(image_set: ImageSet, device: torch.device) -> PreparedImages:
    """Scale pixels to 0 to 1, subtract the set's mean and divide by its standard deviation, a channel each.

    All splits are scaled alike, by what `normalize` of the set's configuration says: measured on its training images,
    or fixed.
    """
    mean, std = (value.to(device)[:, None, None] for value in (image_set.mean, image_set.std))
    parts: dict[str, Tensor] = {}
    for name in SPLITS:
        pixels = image_set.images[image_set.split[name]].to(device)
        parts[name] = pixels.float().div_(255).sub_(mean).div_(std)
        parts[f"{name}_labels"] = image_set.labels[image_set.split[name]].to(device)
    return PreparedImages(**parts)
