"""Zoos of random networks, and weight data sets made of them."""

import numpy as np
import pandas as pd

from weightspace.networks import Architecture, Block, build_cnn_l, build_cnn_s, build_layout
from weightspace.store import Checkpoints, name_part, write_part
from weightspace.weights.config import WeightsConfig
from weightspace.weights.prepare import prepare_weight_data
from weightspace.weights.weight_data import read_weight_data

MLP = Architecture(
    name="mlp",
    channels=1,
    height=6,
    width=5,
    blocks=(
        Block(kind="linear", features=7),
        Block(kind="linear", features=5, dropout=True),
        Block(kind="linear", features=3, activate=False),
    ),
)
ARCHITECTURES = {"cnn_s": build_cnn_s(), "cnn_s_rgb": build_cnn_s(3), "cnn_l": build_cnn_l(), "mlp": MLP}
ARCHITECTURE = ARCHITECTURES["cnn_s"]
LAYOUT = build_layout(ARCHITECTURE)
MEMBERS, EPOCHS = 20, 4


def configure(**changes):
    config = {
        "zoo": "made_up",
        "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
        "filters": [],
        "max_abs_weight": None,
        "split": {"kind": "random", "train": 0.7, "val": 0.15, "test": 0.15, "seed": 0},
        "canonical": {"scale": False, "orient": False},
        "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 100},
        "standardization": {"kind": "layer"},
    }
    return WeightsConfig.model_validate(config | changes)


def match_weights_to(**reference):
    return {"kind": "weight_matching", "reference": reference, "seed": 0, "max_sweeps": 100}


def make_part(first, members, rng, architecture=ARCHITECTURE):
    layout, rows = build_layout(architecture), members * EPOCHS
    start = rng.normal(size=(members, 1, layout.num_weights))
    steps = rng.normal(size=(members, EPOCHS, layout.num_weights)).cumsum(1)
    table = pd.DataFrame(
        {
            "member": [f"m{first + i:05d}" for i in range(members) for _ in range(EPOCHS)],
            "epoch": np.tile(np.arange(EPOCHS), members),
            "val_accuracy": rng.random(rows).astype(np.float32),
            "diverged": np.zeros(rows, bool),
            "activation": "tanh",
            "lr": rng.random(rows),
        }
    )
    weights = (0.2 * start + 0.02 * steps).astype(np.float32).reshape(rows, -1)
    return Checkpoints(layout, table, weights, {"architecture": architecture.model_dump(mode="json")})


def write_zoo(folder, change=None, architecture=ARCHITECTURE, seed=0):
    """Write two parts of made-up members, after a change to their table, weights and what they say of themselves."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(2):
        part = make_part(number * MEMBERS // 2, MEMBERS // 2, rng, architecture)
        if change:
            change(part)
        write_part(folder / name_part(number), part)


def make_work(target):
    work = target.with_name("work")
    work.mkdir(exist_ok=True)
    return work


def prepare(zoo, target, **changes):
    prepare_weight_data({"made_up": zoo}, target, configure(**changes), make_work(target))
    return read_weight_data(target)
