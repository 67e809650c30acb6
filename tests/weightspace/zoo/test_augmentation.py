from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from weightspace.zoo.augmentation import CROP, DEGREES, Changes, augment_images, draw_changes
from weightspace.zoo.training import Augmentation, Recipe

BLACK = torch.tensor([-0.5, -1.5])


def make_recipe(augmentation, members=4):
    same = np.ones(members)
    numbers = np.arange(members), same, 0 * same, 0 * same, np.full(members, 100)
    return Recipe("relu", "sgd", 10, *numbers, augmentation=augmentation)


def leave(members, images, degrees=None):
    """Changes that change nothing."""
    shape = (members, images)
    return Changes(np.full((*shape, 2), CROP), np.zeros(shape, bool), None if degrees is None else degrees)


def draw_images(height=8, width=6):
    return torch.rand(2, 3, 2, height, width, generator=torch.Generator().manual_seed(0))


def rotate_as_pillow(channel, degrees, fill):
    """What torchvision's RandomRotation does to an image."""
    image = Image.fromarray(channel.numpy())
    return torch.from_numpy(np.asarray(image.rotate(degrees, Image.Resampling.NEAREST, fillcolor=fill)).copy())


def test_a_crop_is_a_window_of_the_padded_image():
    images, changes = draw_images(), leave(2, 3)
    assert torch.equal(augment_images(images, changes, BLACK), images)
    changes.crops[1, 2] = [6, 1]
    moved = augment_images(images, changes, BLACK)
    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, 2, :, :6, 3:], images[1, 2, :, 2:, :3])
    for channel, black in enumerate(BLACK):
        assert (moved[1, 2, channel, 6:] == black).all()
        assert (moved[1, 2, channel, :, :3] == black).all()


def test_a_mirrored_image_is_turned_left_to_right():
    images, changes = draw_images(), leave(2, 3)
    changes.mirrored[1, 2] = True
    moved = augment_images(images, changes, BLACK)
    assert torch.equal(moved[1, 2], images[1, 2].flip(-1))
    assert torch.equal(moved[0], images[0])


@pytest.mark.parametrize(("height", "width"), [(8, 6), (9, 9), (32, 32)])
@pytest.mark.parametrize("degrees", [-20.0, -13.7, -0.3, 0.0, 4.4, 11.3, 19.9, 90.0])
def test_a_rotation_is_pillows(height, width, degrees):
    """Pillow counts in steps of 1/65536 pixel, which add up: where two pixels are as near to 0.001, it may take either.

    In 32 x 32 pixels that was 3 at most, over a hundred angles.
    """
    images = draw_images(height, width)
    angles = np.zeros((2, 3))
    angles[1, 2] = degrees
    moved = augment_images(images, leave(2, 3, angles), BLACK)
    assert torch.equal(moved[0], images[0])
    for channel, black in enumerate(BLACK.tolist()):
        other = moved[1, 2, channel] != rotate_as_pillow(images[1, 2, channel], degrees, black)
        assert other.sum() <= (3 if width == 32 else 0)


def test_all_at_once_are_one_after_the_other():
    images, recipe = draw_images(), make_recipe("crop_flip_rotate", 2)
    changes = draw_changes(recipe, 1, 3)
    step = augment_images(images, Changes(changes.crops, leave(2, 3).mirrored, None), BLACK)
    step = augment_images(step, Changes(leave(2, 3).crops, changes.mirrored, None), BLACK)
    step = augment_images(step, leave(2, 3, changes.degrees), BLACK)
    assert torch.equal(augment_images(images, changes, BLACK), step)
    assert not torch.equal(step, images)


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
def test_what_is_not_asked_for_is_not_drawn(augmentation):
    changes = draw_changes(make_recipe(augmentation), 1, 200)
    if augmentation == "none":
        assert changes is None
        return
    kinds = set(augmentation.split("_"))
    assert (set(np.unique(changes.crops)) == set(range(2 * CROP + 1))) == ("crop" in kinds)
    assert ("crop" in kinds) or (changes.crops == CROP).all()
    assert changes.mirrored.mean() == pytest.approx(0.5 if "flip" in kinds else 0, abs=0.1 if "flip" in kinds else 0)
    assert (changes.degrees is not None) == ("rotate" in kinds)
    if changes.degrees is not None:
        assert np.abs(changes.degrees).max() <= DEGREES
        assert changes.degrees.std() == pytest.approx(DEGREES / 3**0.5, rel=0.1)  # of a uniform one


def test_each_member_and_epoch_has_changes_of_its_own_whoever_is_beside_it():
    recipe = make_recipe("crop_flip_rotate")
    first, second = draw_changes(recipe, 1, 20), draw_changes(recipe, 2, 20)
    alone = draw_changes(make_recipe("crop_flip_rotate", 1), 1, 20)
    for name in ("crops", "mirrored", "degrees"):
        ours, later, only = (getattr(one, name) for one in (first, second, alone))
        assert (ours[0] == only[0]).all()
        assert (ours[0] != ours[1]).any()
        assert (ours[0] != later[0]).any()
