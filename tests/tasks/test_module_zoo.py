"""A zoo of residual networks and one of a user's module, from images to a weight data set."""

import pandas as pd
import pytest

from tasks.images import make_images
from tasks.weights import make_weights
from tasks.zoo import make_zoo
from weightspace.config import BadInput
from weightspace.images.config import ImagesConfig
from weightspace.imports.info import describe_output
from weightspace.record import read_record
from weightspace.store import read_metadata
from weightspace.weights.config import WeightsConfig
from weightspace.zoo.config import ZooConfig

IMAGES = ImagesConfig.model_validate(
    {
        "source": {"kind": "digits"},
        "classes": 10,
        "side": 16,
        "fit": "resize",
        "channels": 1,
        "split": {"kind": "counts", "train": 64, "val": 20, "test": 20, "seed": 0},
        "normalize": {"kind": "train"},
    }
)
FIXED = {
    "activation": "relu",
    "init": "kaiming_normal",
    "optimizer": "sgd",
    "lr": 0.05,
    "weight_decay": 5e-4,
    "dropout": 0.0,
    "batch_size": 32,
    "train_fraction": 1.0,
    "schedule": "one_cycle",
}
WEIGHTS = {
    "zoo": "z",
    "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
    "filters": [],
    "max_abs_weight": None,
    "split": {"kind": "random", "train": 0.5, "val": 0.0, "test": 0.5, "seed": 0},
    "canonical": {"scale": False, "orient": False},
    "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 20},
    "standardization": {"kind": "layer"},
}


def configure(architecture, without=()):
    factors = {name: {"kind": "fixed", "value": value} for name, value in FIXED.items() if name not in without}
    return ZooConfig.model_validate(
        {
            "images": "digits",
            "architecture": architecture,
            "members": {"kind": "draw", "count": 2, "seed": 1, "factors": factors},
            "epochs": 1,
            "shard_size": 2,
            "engine": "auto",
            "device": "cpu",
            "train_metrics": "after",
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    make_images("digits", IMAGES, folder)
    return folder


def test_residual_networks_become_an_aligned_data_set(study):
    make_zoo("z", configure({"kind": "resnet", "depth": 18, "width": 4}), study)
    make_weights("w", WeightsConfig.model_validate(WEIGHTS), study)
    zoo, table = (pd.read_parquet(study / "data" / folder) for folder in ("zoo/z", "weights/w"))
    assert len(table) == len(zoo) == 4
    layout, about = read_metadata(study / "data/weights/w/part-00000.parquet")
    assert about["architecture"]["name"] == "resnet18_w4"
    assert {len(row) for row in table["weights"]} == {layout.num_weights}
    assert layout.has_buffers
    aligned = [not (table["weights"][i] == zoo["weights"][i]).all() for i in range(4)]
    assert sum(aligned) == 2, "one member is the reference, and the other is brought near it"
    lines = "\n".join(describe_output(study / "data/zoo/z", read_record(study / "data/zoo/z")))
    assert "layer4.1.conv2" in lines or "resnet18_w4" in lines


def test_a_users_module_becomes_a_data_set_that_is_not_aligned(study):
    path = "tests.weightspace.zoo.user_modules:Wide"
    choice = {"kind": "module", "path": path, "arguments": {"num_classes": 10}}
    make_zoo("z", configure(choice, without=("activation", "dropout")), study)
    with pytest.raises(BadInput, match="alignment: got weight_matching for Wide, a module that a user wrote"):
        make_weights("w", WeightsConfig.model_validate(WEIGHTS), study)
    make_weights("w", WeightsConfig.model_validate(WEIGHTS | {"alignment": {"kind": "none"}}), study)
    zoo, table = (pd.read_parquet(study / "data" / folder) for folder in ("zoo/z", "weights/w"))
    assert all((table["weights"][i] == zoo["weights"][i]).all() for i in range(4))
    about = read_metadata(study / "data/zoo/z/part-00000.parquet")[1]
    assert (about["architecture"]["kind"], about["architecture"]["path"]) == ("module", path)


def test_an_engine_that_cannot_is_refused_before_any_work(study):
    config = configure({"kind": "resnet", "depth": 18, "width": 4}).model_copy(update={"engine": "fused_cpu"})
    with pytest.raises(BadInput, match="engine: got 'fused_cpu' for resnet18_w4, wanted torch"):
        make_zoo("other", config, study)
    assert not (study / "data/zoo/other").exists()
