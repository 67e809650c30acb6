"""Build an image set from its configuration."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from weightspace.config import BadInput
from weightspace.images.config import FixedStatistics, ImagesConfig, TrainStatistics
from weightspace.images.fit import fit_pixels
from weightspace.images.image_set import SPLITS, ImageSet
from weightspace.images.sources import read_source
from weightspace.images.split import check_classes, check_parts, split_images

Statistics = tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, " channels"]]


def build_image_set(config: ImagesConfig, root: Path) -> ImageSet:
    """Read a source, split it and prepare the images that are used, part by part.

    Args:
        root: what relative paths of the configuration start from.

    Raises:
        BadInput: files are missing, damaged or not of the kind, or the set does not give what is asked of it.
    """
    raw = read_source(config.source, root)
    labels = raw.all.labels
    check_classes(labels, config.classes)
    split = split_images(labels, raw.num_train, config.split)
    check_parts(labels, split, config.classes)
    rows = np.concatenate([split[name] for name in SPLITS])
    images = fit_pixels(raw.all.pixels, rows, config.side, config.channels, config.fit)
    mean, std = choose_statistics(images[: len(split["train"])], config.normalize)
    return ImageSet(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels[rows]),
        split=place_parts([len(split[name]) for name in SPLITS]),
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
        rows=torch.from_numpy(rows),
        source=dict(raw.digests),
    )


def place_parts(lengths: list[int]) -> dict[str, torch.Tensor]:
    """Index images that lie part by part."""
    parts = torch.arange(sum(lengths)).split(lengths)
    return {name: part.clone() for name, part in zip(SPLITS, parts, strict=True)}


def choose_statistics(
    train: UInt8[np.ndarray, "images channels height width"], config: TrainStatistics | FixedStatistics
) -> Statistics:
    """Give the mean and standard deviation that normalise, a channel each.

    Raises:
        BadInput: all training images are of one colour.
    """
    if isinstance(config, FixedStatistics):
        return np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    mean, std = measure_pixels(train)
    if not std.all():
        raise BadInput("normalize.kind: got train, but all pixels of the training images are alike; wanted fixed")
    return mean, std


def measure_pixels(images: UInt8[np.ndarray, "images channels height width"]) -> Statistics:
    """Measure the mean and standard deviation of pixels scaled to 0 to 1, a channel each.

    Counts of the 256 values are exact, so the result is the same on every machine.
    """
    values = np.arange(256) / 255
    counts = np.stack([np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])])
    shares = counts / counts.sum(1, keepdims=True)
    mean = (shares * values).sum(1)
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
