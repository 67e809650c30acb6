import numpy as np
import pytest

from tasks.images import make_images
from weightspace.config import BadInput
from weightspace.images.config import ImagesConfig
from weightspace.images.image_set import read_image_set
from weightspace.record import read_record


def configure(**changes):
    values = {
        "source": {"kind": "digits"},
        "classes": 10,
        "side": 28,
        "fit": "resize",
        "channels": 1,
        "split": {"kind": "counts", "train": 200, "val": 100, "test": 100, "seed": 0},
        "normalize": {"kind": "train"},
    }
    return ImagesConfig.model_validate(values | changes)


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_set_is_written_with_its_record(tmp_path):
    make_images("digits", configure(), tmp_path)
    folder = tmp_path / "data/images/digits"
    record = read_record(folder)
    assert (record.stage, record.name) == ("images", "digits")
    assert record.config == configure().model_dump(mode="json")
    assert np.bincount(read_image_set(folder).labels).sum() == 400


def test_two_runs_write_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        make_images("digits", configure(), tmp_path / name)
    first, second = (read_files(tmp_path / name / "data/images/digits") for name in ("first", "second"))
    assert first == second


def test_a_failure_names_the_set_and_leaves_the_old_one(tmp_path):
    make_images("digits", configure(), tmp_path)
    before = read_files(tmp_path / "data/images/digits")
    with pytest.raises(BadInput, match=r"images.digits: classes: got 9, but the set has the label 9"):
        make_images("digits", configure(classes=9), tmp_path)
    assert read_files(tmp_path / "data/images/digits") == before
    assert [path.name for path in (tmp_path / "data/images").iterdir()] == ["digits"]
