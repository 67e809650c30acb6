import csv
import gzip
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from weightspace.imports.build import import_zoo
from weightspace.imports.config import ImportConfig
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout

PATTERNS = {"cnn_s": (0, 3, 6, 9, 11), "cnn_s_dropout": (0, 4, 8, 11, 14), "cnn_l": (0, 4, 8, 13, 16)}
SHARED = {"mixed": "refuse", "images": ".", "proof_members": 0}
SPECIAL = {
    "modelzoo": {"epoch_offset": None, "columns": (), "log_sigma2": "refuse"},
    "phase_transition": {"epoch_offset": None, "columns": (), "log_sigma2": "refuse"},
    "wild_park": {"epoch_offset": None, "split_file": None},
    "huggingface": {"epoch_offset": None, "columns": (), "wiring": "by_name"},
    "weightclip": {"epoch_offset": None, "columns": (), "wiring": "by_name"},
    "prepared_pt": {},
    "small_cnn_zoo": {"split_file": None},
    "folder": {"table": None, "wiring": "by_name"},
}


@pytest.fixture
def read():
    """Give a function that imports what lies at `src` below the temporary folder into `zoo`."""

    def run(root, kind, path="src", images=None, **changes):
        values = {"format": kind, "path": path, **SHARED, **SPECIAL[kind], **changes}
        config = TypeAdapter(ImportConfig).validate_python(values)
        return import_zoo("zoo", config, root, root / "zoo", images)

    return run


@pytest.fixture
def make_state():
    """Give a function that makes a state dict of a published network, and its weight vector in our order."""

    def make(pattern="cnn_s", seed=0):
        architecture = build_cnn_l() if pattern == "cnn_l" else build_cnn_s()
        layout = build_layout(architecture)
        vector = torch.randn(layout.num_weights, generator=torch.Generator().manual_seed(seed))
        tensors = list(layout.split(vector).values())
        state = {}
        for number, index in enumerate(PATTERNS[pattern]):
            state[f"module_list.{index}.weight"] = tensors[2 * number].clone()
            state[f"module_list.{index}.bias"] = tensors[2 * number + 1].clone()
        return state, vector.numpy()

    return make


@pytest.fixture
def write_run(make_state):
    """Give a function that writes one Ray folder and returns its weight vectors."""

    def write(folder, pattern="cnn_s", seed=0, epochs=(0, 1, 2), padded=True, offset=0, metrics=None, first=None):
        folder.mkdir(parents=True)
        dropout = 0.5 if pattern != "cnn_s" else 0.0
        params = {"model::nlin": "tanh", "model::dropout": dropout, "optim::lr": 3e-4, "optim::wd": 0, "seed": seed}
        params |= {"model::o_dim": 4, "optim::optimizer": "rms_prop", "model::init_type": "uniform"}
        (folder / "params.json").write_text(json.dumps(params))
        lines = [
            {
                "training_iteration": e + offset,
                "train_acc": e / 100,
                "test_acc": e / 200,
                "train_loss": 1.0,
                "test_loss": 2.0,
            }
            for e in (epochs if metrics is None else metrics)
        ]
        (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        vectors = {}
        for epoch in epochs:
            state, vectors[epoch] = make_state(pattern, 100 * seed + epoch) if first is None else first
            place = folder / (f"checkpoint_{epoch:06d}" if padded else f"checkpoint_{epoch}")
            place.mkdir()
            torch.save(state, place / "checkpoints")
            (place / "optimizer").write_bytes(b"not for us")
        return vectors

    return write


@pytest.fixture
def pack():
    """Give a function that packs a folder as an archive beside it."""

    def run(folder, name):
        target = folder.with_name(name)
        if name.endswith(".zip"):
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in folder.rglob("*"):
                    archive.write(path, path.relative_to(folder))
        else:
            with tarfile.open(target, "w:gz" if name.endswith("gz") else "w") as archive:
                archive.add(folder, arcname=".")
        return name

    return run


@pytest.fixture
def write_small_cnn():
    """Give a function that writes a small CNN zoo and returns its matrix."""

    def write(folder, runs=3, steps=(0, 1, 86)):
        folder.mkdir()
        shapes = [(16,), (3, 3, 1, 16), (16,), (3, 3, 16, 16), (16,), (3, 3, 16, 16), (10,), (16, 10)]
        names = [
            f"sequential/{m}/{t}:0" for m in ("conv2d", "conv2d_1", "conv2d_2", "dense") for t in ("bias", "kernel")
        ]
        start, rows = 0, []
        for name, shape in zip(names, shapes, strict=True):
            rows.append((name, start, start := start + int(np.prod(shape)), str(shape)))
        with (folder / "layout.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("varname", "start_idx", "end_idx", "shape"), *rows])
        matrix = np.random.default_rng(0).standard_normal((runs * len(steps), start)).astype(np.float32)
        np.save(folder / "weights.npy", matrix)
        # Runs take turns, as a log of many runs side by side would.
        lines = [
            (f"/runs/{run}", step, 0.5, 0.25, 1.0, 2.0, "relu", 0.01, 1e-4, 0.1, "zeros", 42)
            for step in steps
            for run in range(runs)
        ]
        head = "modeldir,step,train_accuracy,test_accuracy,train_loss,test_loss,config.activation,config.learning_rate"
        head += ",config.l2reg,config.dropout,config.b_init,config.seed"
        with gzip.open(folder / "metrics.csv.gz", "wt", newline="") as file:
            file.write(head + "\n")
            csv.writer(file).writerows(lines)
        return matrix

    return write
