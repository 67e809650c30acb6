import numpy as np
import pytest
import torch

from weightspace.config import BadInput
from weightspace.images.build import build_image_set, measure_pixels
from weightspace.images.idx import IDX_NAMES
from weightspace.images.image_set import prepare_images


@pytest.fixture
def study(tmp_path, arrays, write_idx):
    write_idx(tmp_path / "set", arrays)
    return tmp_path


def test_a_set_holds_the_images_its_rows_name(study, arrays, make_config):
    image_set = build_image_set(make_config(), study)
    images, labels = (np.concatenate([arrays[IDX_NAMES[i]], arrays[IDX_NAMES[i + 2]]]) for i in (0, 1))
    assert np.array_equal(image_set.images[:, 0].numpy(), images[image_set.rows.numpy()])
    assert np.array_equal(image_set.labels.numpy(), labels[image_set.rows.numpy()])


def test_a_set_holds_only_what_its_split_uses(study, make_config):
    image_set = build_image_set(make_config(), study)
    assert [len(part) for part in image_set.split.values()] == [24, 12, 16]
    assert torch.cat(list(image_set.split.values())).tolist() == list(range(52))


def test_training_images_come_out_with_mean_0_and_deviation_1(study, make_config):
    train = prepare_images(build_image_set(make_config(), study), torch.device("cpu")).train
    assert train.mean().item() == pytest.approx(0, abs=1e-5)
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_fixed_statistics_are_used_as_given(study, make_config):
    image_set = build_image_set(make_config(normalize={"kind": "fixed", "mean": [0.1307], "std": [0.3081]}), study)
    assert image_set.mean.tolist() == pytest.approx([0.1307])
    assert image_set.std.tolist() == pytest.approx([0.3081])


def test_statistics_are_those_of_numpy_per_channel():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 5), dtype=np.uint8)
    mean, std = measure_pixels(images)
    assert mean == pytest.approx((images / 255).mean((0, 2, 3)), rel=1e-6)
    assert std == pytest.approx((images / 255).std((0, 2, 3)), rel=1e-6)


def test_size_and_channels_are_as_asked(study, make_config):
    assert build_image_set(make_config(side=9, channels=3, fit="crop"), study).shape == (3, 9, 9)


def test_a_set_of_other_classes_than_stated_is_refused(study, make_config):
    with pytest.raises(BadInput, match="classes: got 3, but the set has the label 3"):
        build_image_set(make_config(classes=3), study)


def test_a_class_missing_in_a_part_is_refused(study, make_config):
    split = {"kind": "official", "train": 24, "val": 2, "test": 16, "seed": 1}
    with pytest.raises(BadInput, match=r"split.val: no image of class"):
        build_image_set(make_config(split=split), study)


def test_images_of_one_colour_cannot_be_normalised(study, arrays, make_config, write_idx):
    arrays[IDX_NAMES[0]][:] = 9
    write_idx(study / "set", arrays)
    with pytest.raises(BadInput, match=r"normalize.kind: got train"):
        build_image_set(make_config(), study)


def test_a_folder_that_is_not_there_is_named(study, make_config):
    source = {"kind": "idx", "origin": {"kind": "folder", "path": "elsewhere"}}
    with pytest.raises(BadInput, match=r"source.origin.path: .*elsewhere is no folder"):
        build_image_set(make_config(source=source), study)


def test_digits_are_resized_to_28(make_config, tmp_path):
    config = make_config(
        source={"kind": "digits"},
        classes=10,
        side=28,
        split={"kind": "counts", "train": 1197, "val": 300, "test": 300, "seed": 0},
    )
    image_set = build_image_set(config, tmp_path)
    assert image_set.shape == (1, 28, 28)
    assert len(image_set.labels) == 1797
