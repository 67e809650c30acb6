"""Change training images anew in each epoch: crop, mirror and rotate them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from weightspace.zoo.training import STREAM_AUGMENT, Recipe, seed_generator

CROP = 4
"""Pixels around an image that is cropped."""
DEGREES = 20.0
"""How far an image is rotated at most, either way."""


@dataclass(frozen=True)
class Changes:
    """What each image goes through, in the order of the fields."""

    crops: Int64[np.ndarray, "members images 2"]
    """First row and column of the image's own size, out of the image with `CROP` pixels around it."""
    mirrored: Bool[np.ndarray, "members images"]
    degrees: Float64[np.ndarray, "members images"] | None
    """Counter-clockwise about the middle, each pixel taken from the nearest one; None: not rotated."""

    def pick(self, start: int, stop: int) -> "Changes":
        """Keep those of some images."""
        degrees = None if self.degrees is None else self.degrees[:, start:stop]
        return Changes(self.crops[:, start:stop], self.mirrored[:, start:stop], degrees)


def draw_changes(recipe: Recipe, epoch: int, num: int) -> Changes | None:
    """Draw what each image of an epoch goes through, by each member's own seed; None: nothing."""
    if recipe.augmentation == "none":
        return None
    kinds = recipe.augmentation.split("_")
    generators = [seed_generator(seed, STREAM_AUGMENT, epoch) for seed in recipe.seed.tolist()]
    high = [2 * CROP + 1, 2 * CROP + 1, 2]
    drawn = np.stack([one.integers(0, high, (num, 3)) for one in generators])
    crops = drawn[..., :2] if "crop" in kinds else np.full_like(drawn[..., :2], CROP)
    mirrored = (drawn[..., 2] == 1) & ("flip" in kinds)
    degrees = np.stack([one.uniform(-DEGREES, DEGREES, num) for one in generators]) if "rotate" in kinds else None
    return Changes(crops, mirrored, degrees)


def augment_images(
    images: Float32[Tensor, "members batch channels height width"],
    changes: Changes,
    black: Float32[Tensor, " channels"],
) -> Float32[Tensor, "members batch channels height width"]:
    """Change each image; what comes from outside of it is black.

    Source: torchvision's RandomCrop with padding, RandomHorizontalFlip and RandomRotation, as the published zoos of
    residual networks use them.
    """
    height, width = images.shape[-2:]
    row, column = (torch.arange(n, device=images.device) for n in (height, width))
    rows, columns = row[:, None].expand(height, width), column.expand(height, width)
    inside = torch.tensor(True, device=images.device)
    if changes.degrees is not None:
        rows, columns = rotate(rows, columns, torch.from_numpy(changes.degrees).to(images.device).flatten())
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    mirrored = torch.from_numpy(changes.mirrored).to(images.device).flatten()
    crops = torch.from_numpy(changes.crops).to(images.device).flatten(0, 1)
    columns = torch.where(mirrored[:, None, None], width - 1 - columns, columns) + crops[:, 1, None, None]
    rows = (rows + crops[:, 0, None, None]).expand_as(columns)
    padded = black[:, None, None].repeat(len(mirrored), 1, height + 2 * CROP, width + 2 * CROP)
    padded[..., CROP:-CROP, CROP:-CROP] = images.flatten(0, 1)
    number = torch.arange(len(padded), device=images.device)[:, None, None]
    taken = padded.permute(0, 2, 3, 1)[number, rows, columns]
    return torch.where(inside[..., None], taken, black).permute(0, 3, 1, 2).reshape(images.shape)


def rotate(
    rows: Int64[Tensor, "height width"], columns: Int64[Tensor, "height width"], degrees: Float64[Tensor, " images"]
) -> tuple[Int64[Tensor, "images height width"], Int64[Tensor, "images height width"]]:
    """Say which pixel is nearest to where each one of a rotated image comes from; it may lie outside."""
    middle_row, middle_column = (rows.shape[0] - 1) / 2, (rows.shape[1] - 1) / 2
    down, right = (rows - middle_row).double(), (columns - middle_column).double()
    sine, cosine = (part[:, None, None] for part in (degrees.deg2rad().sin(), degrees.deg2rad().cos()))
    from_row, from_column = cosine * down + sine * right + middle_row, cosine * right - sine * down + middle_column
    return (from_row + 0.5).floor().long(), (from_column + 0.5).floor().long()
