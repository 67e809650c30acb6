"""Image sets: images with labels and a fixed split, on disk and ready for training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from weightspace.config import BadInput

SPLITS = ("train", "val", "test")
FILE_NAME = "images.safetensors"


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
    """All images of a set as stored, with the split as data."""

    images: UInt8[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"]
    """From 0 to `num_classes - 1`, each present."""
    split: dict[str, Int64[Tensor, " part"]]
    """Indices of the images of `train`, `val` and `test`."""

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
    save_file({"images": image_set.images, "labels": image_set.labels, **image_set.split}, folder / FILE_NAME)


def read_image_set(folder: Path) -> ImageSet:
    """Read an image set.

    Raises:
        BadInput: the file is missing or cut short.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted an image set; run the images stage that makes it")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error
    return ImageSet(tensors["images"], tensors["labels"], {name: tensors[name] for name in SPLITS})


def prepare_images(image_set: ImageSet, device: torch.device) -> PreparedImages:
    """Scale to mean 0 and standard deviation 1 per channel, as measured on the training images."""
    pixels = image_set.images.float() / 255
    train = pixels[image_set.split["train"]]
    mean, std = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    pixels = (pixels - mean) / std
    parts: dict[str, Tensor] = {}
    for name in SPLITS:
        parts[name] = pixels[image_set.split[name]].contiguous().to(device)
        parts[f"{name}_labels"] = image_set.labels[image_set.split[name]].to(device)
    return PreparedImages(**parts)
