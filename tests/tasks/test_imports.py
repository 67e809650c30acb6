import json

import pytest
import torch
from pydantic import TypeAdapter

from tasks.imports import make_import
from tasks.weights import make_weights
from weightspace.config import BadInput
from weightspace.imports.config import ImportConfig
from weightspace.networks import build_cnn_s, build_layout
from weightspace.record import read_record
from weightspace.store import read_checkpoints
from weightspace.weights.config import WeightsConfig


@pytest.fixture
def config():
    return TypeAdapter(ImportConfig).validate_python(
        {
            "format": "modelzoo",
            "path": "foreign",
            "mixed": "refuse",
            "images": "noise",
            "proof_members": 1,
            "epoch_offset": None,
            "columns": [],
            "log_sigma2": "refuse",
        }
    )


@pytest.fixture
def study(tiny_study):
    """A study with images and a foreign zoo of twelve members."""
    layout = build_layout(build_cnn_s())
    for member in range(12):
        run = tiny_study / f"foreign/run{member:02d}"
        vector = torch.randn(layout.num_weights, generator=torch.Generator().manual_seed(member))
        tensors = list(layout.split(vector).values())
        state = {
            f"module_list.{index}.{name}": tensors[2 * i + j].clone()
            for i, index in enumerate((0, 3, 6, 9, 11))
            for j, name in enumerate(("weight", "bias"))
        }
        (run / "checkpoint_0").mkdir(parents=True)
        torch.save(state, run / "checkpoint_0/checkpoints")
        (run / "params.json").write_text('{"model::nlin": "tanh"}')
        line = {"training_iteration": 0, "test_acc": 0.1, "val_acc": member / 20}
        (run / "result.json").write_text(json.dumps(line))
    return tiny_study


def test_imported_zoo_is_what_the_weights_stage_takes(study, config):
    make_import("z", config, study)
    weights = WeightsConfig.model_validate(
        {
            "zoo": "z",
            "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
            "filters": [],
            "max_abs_weight": None,
            "split": {"kind": "random", "train": 0.6, "val": 0.2, "test": 0.2, "seed": 0},
            "canonical": {"scale": False, "orient": False},
            "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 2},
            "standardization": {"kind": "layer"},
        }
    )
    make_weights("w", weights, study)
    assert len(read_checkpoints(study / "data/weights/w").table) == 12


def test_record_names_the_images_of_the_proof(study, config):
    make_import("z", config, study)
    images = read_record(study / "data/images/noise")
    assert read_record(study / "data/zoo/z").inputs == {"images/noise": images.digest}


def test_error_names_the_entry(study, config):
    with pytest.raises(BadInput, match=r"imports\.z: .*nowhere: missing"):
        make_import("z", config.model_copy(update={"path": "nowhere"}), study)
