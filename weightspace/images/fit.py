"""Bring images to one size and number of channels, to the same bytes on every machine."""

import numpy as np
from jaxtyping import Int64, UInt8

Pixels = UInt8[np.ndarray, "images channels height width"]
Fitted = UInt8[np.ndarray, "new_images new_channels new_height new_width"]
CHUNK = 1024
"""Images prepared at once; bounds memory."""


def fit_pixels(pixels: Pixels, rows: Int64[np.ndarray, " chosen"], size: int, channels: int, fit: str) -> Fitted:
    """Prepare the chosen images: first grey or colour, then the size."""
    fitted = np.empty((len(rows), channels, size, size), np.uint8)
    for start in range(0, len(rows), CHUNK):
        chunk = convert_channels(pixels[rows[start : start + CHUNK]], channels)
        fitted[start : start + CHUNK] = resize(chunk, size) if fit == "resize" else crop(chunk, size)
    return fitted


def convert_channels(pixels: Pixels, channels: int) -> Fitted:
    """Turn colour to grey, or repeat grey.

    Source: ITU-R BT.601 luma with the integer weights that Pillow uses.
    """
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=1)
    red, green, blue = pixels.astype(np.uint32).transpose(1, 0, 2, 3)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[:, None]


def weigh_pixels(before: int, after: int) -> Int64[np.ndarray, "after before"]:
    """Weigh old pixels for each new one along an axis: a triangle around its centre, two pixels wide of the coarser.

    The weights are whole numbers, to be divided by their sum.
    """
    centres = (2 * np.arange(after) + 1) * before
    places = (2 * np.arange(before) + 1) * after
    return np.maximum(0, 2 * max(before, after) - np.abs(places[None] - centres[:, None]))


def resize(pixels: Pixels, size: int) -> Fitted:
    """Resize bilinearly, with anti-aliasing where images shrink, rounded half up.

    Differs: from Pillow's bilinear filter by at most 1, as that rounds between the axes; here all sums are whole
    numbers below 2**53, so that float64 products are exact and no machine rounds differently.
    """
    if pixels.shape[2:] == (size, size):
        return pixels
    down, across = (weigh_pixels(length, size) for length in pixels.shape[2:])
    scale = down.sum(1)[:, None] * across.sum(1)[None]
    sums = (down.astype(np.float64) @ pixels.astype(np.float64) @ across.T.astype(np.float64)).astype(np.int64)
    return ((sums + scale // 2) // scale).astype(np.uint8)


def crop(pixels: Pixels, size: int) -> Fitted:
    """Cut the centre out, or set the image in a black frame, along each axis."""
    framed = np.zeros((*pixels.shape[:2], size, size), np.uint8)
    (to_y, from_y), (to_x, from_x) = (overlap_centres(length, size) for length in pixels.shape[2:])
    framed[:, :, to_y, to_x] = pixels[:, :, from_y, from_x]
    return framed


def overlap_centres(before: int, after: int) -> tuple[slice, slice]:
    """Say where two centred lengths overlap: in the new one, and in the old one."""
    kept = min(before, after)
    starts = [(length - kept) // 2 for length in (after, before)]
    return slice(starts[0], starts[0] + kept), slice(starts[1], starts[1] + kept)
