"""Read image sets published as folders of JPEG files: Tiny-ImageNet and EuroSAT."""

import hashlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from weightspace.config import BadInput
from weightspace.images.archives import walk_files
from weightspace.images.raw import Part, RawImages

TINY_IMAGENET = "tiny-imagenet-200.zip"
EUROSAT = "EuroSAT.zip"
SHAPE = (3, 64, 64)
"""Of the images of both sets."""


@dataclass
class Photos:
    """Images decoded so far, and the class of each by name."""

    pixels: list[UInt8[np.ndarray, "3 height width"]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def add(self, name: str, content: bytes, class_name: str) -> None:
        """Decode an image.

        Raises:
            BadInput: it cannot be decoded, or is of another size than is published.
        """
        image = decode_image(name, content)
        if image.shape != SHAPE:
            raise BadInput(f"{name}: shape {image.shape}, wanted {SHAPE}")
        self.pixels.append(image)
        self.classes.append(class_name)


def decode_image(name: str, content: bytes) -> UInt8[np.ndarray, "3 height width"]:
    """Decode an image to red, green and blue planes; grey becomes three equal ones.

    Raises:
        BadInput: it is damaged, cut short or no image.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError) as error:
        raise BadInput(f"{name}: cannot be decoded ({error}); it may be cut short") from error


def read_eurosat(folder: Path) -> RawImages:
    """Read `EuroSAT.zip`, or its folders unpacked; classes are the folders' names in alphabetical order.

    Raises:
        BadInput: images are missing or damaged.
    """
    photos, hasher = Photos(), hashlib.sha256()
    for name, content in walk_files(folder, EUROSAT, (".jpg",)):
        if "/" in name and not name.startswith("__MACOSX"):
            hasher.update(content)
            photos.add(name, content, name.split("/")[-2])
    check_photos(photos, "any", folder / EUROSAT)
    return collect_photos(photos, None, {"EuroSAT": hasher.hexdigest()})


def read_tiny_imagenet(folder: Path) -> RawImages:
    """Read `tiny-imagenet-200.zip`, or its folders unpacked.

    Its validation images, 50 a class, stand as the test part: the labels of its own test images were never published.
    Classes are the WordNet identifiers in alphabetical order.

    Raises:
        BadInput: images or annotations are missing, or images damaged.
    """
    train, val, hasher = Photos(), Photos(), hashlib.sha256()
    annotations = ""
    for name, content in walk_files(folder, TINY_IMAGENET, (".JPEG", "val_annotations.txt")):
        match name.split("/")[-4:]:
            case [*_, "val_annotations.txt"]:
                annotations = content.decode(errors="replace")
            case ["train", class_name, "images", _]:
                train.add(name, content, class_name)
            case [_, "val", "images", file_name] | ["val", "images", file_name]:
                val.add(name, content, file_name)
            case _:
                continue
        hasher.update(content)
    check_photos(train, "training", folder / TINY_IMAGENET)
    check_photos(val, "validation", folder / TINY_IMAGENET)
    class_of = dict(line.split("\t")[:2] for line in annotations.splitlines() if "\t" in line)
    unknown = [file_name for file_name in val.classes if file_name not in class_of]
    if unknown:
        raise BadInput(f"{folder / TINY_IMAGENET}: val_annotations.txt has no line for {unknown[0]}")
    num_train = len(train.pixels)
    both = Photos(train.pixels + val.pixels, train.classes + [class_of[name] for name in val.classes])
    return collect_photos(both, num_train, {"tiny-imagenet-200": hasher.hexdigest()})


def check_photos(photos: Photos, part: str, path: Path) -> None:
    """Look for images of a part.

    Raises:
        BadInput: there are none.
    """
    if not photos.pixels:
        raise BadInput(f"{path}: missing, or without {part} images, wanted it there or its folders unpacked")


def collect_photos(photos: Photos, num_train: int | None, digests: dict[str, str]) -> RawImages:
    """Put decoded images in one array and number their classes."""
    labels = np.unique(photos.classes, return_inverse=True)[1].astype(np.int64)
    return RawImages(Part(np.stack(photos.pixels), labels), num_train, digests)
