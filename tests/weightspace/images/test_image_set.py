import dataclasses

import pytest
import torch

from weightspace.config import BadInput
from weightspace.images.image_set import FILE_NAME, SPLITS, ImageSet, prepare_images, read_image_set, write_image_set


@pytest.fixture
def image_set():
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        images=torch.randint(0, 256, (12, 3, 5, 5), dtype=torch.uint8, generator=generator),
        labels=torch.arange(12) % 3,
        split=dict(zip(SPLITS, torch.arange(12).split([6, 3, 3]), strict=True)),
        mean=torch.tensor([0.1, 0.2, 0.3]),
        std=torch.tensor([0.5, 0.6, 0.7]),
        rows=torch.arange(12) * 2,
        source={"b": "1", "a": "2"},
    )


def test_a_set_comes_back_as_it_was_written(tmp_path, image_set):
    write_image_set(tmp_path, image_set)
    back = read_image_set(tmp_path)
    for field in dataclasses.fields(ImageSet):
        was, now = getattr(image_set, field.name), getattr(back, field.name)
        if isinstance(was, torch.Tensor):
            assert torch.equal(was, now)
        elif field.name == "split":
            assert all(torch.equal(was[name], now[name]) for name in SPLITS)
        else:
            assert was == now


def test_equal_sets_have_equal_bytes(tmp_path, image_set):
    write_image_set(tmp_path, image_set)
    first = (tmp_path / FILE_NAME).read_bytes()
    turned = dataclasses.replace(
        image_set,
        split=dict(reversed(image_set.split.items())),
        source=dict(reversed(image_set.source.items())),
    )
    write_image_set(tmp_path, turned)
    assert (tmp_path / FILE_NAME).read_bytes() == first


def test_a_set_knows_its_shape_and_classes(image_set):
    assert image_set.shape == (3, 5, 5)
    assert image_set.num_classes == 3


def test_a_missing_set_names_its_file(tmp_path):
    with pytest.raises(BadInput, match=r"images.safetensors: missing"):
        read_image_set(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_set_cut_short_names_its_file(tmp_path, image_set, kept):
    write_image_set(tmp_path, image_set)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"images.safetensors: cannot be read"):
        read_image_set(tmp_path)


def test_prepared_pixels_are_scaled_by_the_sets_statistics(image_set):
    prepared = prepare_images(image_set, torch.device("cpu"))
    pixel = image_set.images[7, 2, 3, 4].item()
    assert prepared.val[1, 2, 3, 4].item() == pytest.approx((pixel / 255 - 0.3) / 0.7, rel=1e-6)
    assert prepared.val_labels.tolist() == image_set.labels[6:9].tolist()


def test_preparing_leaves_the_set_as_it_was(image_set):
    before = image_set.images.clone()
    prepare_images(image_set, torch.device("cpu"))
    assert torch.equal(image_set.images, before)
