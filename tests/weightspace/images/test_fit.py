import numpy as np
import pytest
import torch
from PIL import Image

from weightspace.images.fit import convert_channels, crop, fit_pixels, resize


def draw_pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("before", "after"), [(8, 28), (16, 28), (32, 28), (96, 28), (64, 32), (5, 7)])
def test_resizing_is_pillows_bilinear_within_its_rounding(before, after):
    pixels = draw_pixels(4, 1, before, before)
    wanted = [Image.fromarray(image[0]).resize((after, after), Image.Resampling.BILINEAR) for image in pixels]
    difference = resize(pixels, after)[:, 0].astype(int) - np.stack([np.asarray(image) for image in wanted])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("before", "after"), [(8, 28), (96, 28)])
def test_resizing_is_torchs_in_float64_rounded(before, after):
    pixels = draw_pixels(4, 3, before, before)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).double(), size=(after, after), mode="bilinear", antialias=True
    )
    assert np.abs(resize(pixels, after) - wanted.numpy()).max() <= 0.5 + 1e-9


def test_resizing_to_the_same_size_changes_nothing():
    pixels = draw_pixels(3, 1, 9, 9)
    assert np.array_equal(resize(pixels, 9), pixels)


def test_resizing_keeps_a_flat_image_flat():
    assert np.array_equal(resize(np.full((1, 1, 13, 7), 201, np.uint8), 28), np.full((1, 1, 28, 28), 201))


def test_cropping_cuts_the_centre_out():
    pixels = draw_pixels(2, 3, 32, 32)
    assert np.array_equal(crop(pixels, 28), pixels[:, :, 2:30, 2:30])


def test_cropping_to_more_frames_in_black():
    pixels = draw_pixels(2, 1, 28, 28) | 1
    framed = crop(pixels, 32)
    assert np.array_equal(framed[:, :, 2:30, 2:30], pixels)
    assert (framed > 0).sum() == pixels.size


def test_grey_is_pillows():
    pixels = draw_pixels(1, 3, 40, 40)
    wanted = np.asarray(Image.fromarray(pixels[0].transpose(1, 2, 0)).convert("L"))
    assert np.array_equal(convert_channels(pixels, 1)[0, 0], wanted)


def test_grey_repeats_to_colour():
    pixels = draw_pixels(2, 1, 4, 4)
    assert np.array_equal(convert_channels(pixels, 3), np.concatenate([pixels] * 3, axis=1))


def test_images_are_prepared_alike_in_any_chunk():
    pixels = draw_pixels(1500, 3, 6, 6)
    rows = np.arange(1500)[::-1].copy()
    together = fit_pixels(pixels, rows, 4, 1, "resize")
    alone = fit_pixels(pixels, rows[1200:1201], 4, 1, "resize")
    assert np.array_equal(together[1200:1201], alone)
