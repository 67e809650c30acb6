import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from weightspace.config import BadInput, Config
from weightspace.images.image_set import ImageSet, write_image_set
from weightspace.imports.build import REPORT_NAME
from weightspace.imports.proof import find_obstacle, read_test_images
from weightspace.imports.structure import find_structure
from weightspace.record import write_record


class NoConfig(Config):
    """Configuration of made-up images."""


def run_published(state, images):
    """Compute the published small network from its own state dict, in torch's own operations."""
    x = images
    for index, pool in ((0, True), (3, True), (6, False)):
        x = F.conv2d(x, state[f"module_list.{index}.weight"], state[f"module_list.{index}.bias"])
        x = torch.tanh(F.max_pool2d(x, 2) if pool else x)
    x = torch.tanh(F.linear(x.flatten(1), state["module_list.9.weight"], state["module_list.9.bias"]))
    return F.linear(x, state["module_list.11.weight"], state["module_list.11.bias"])


@pytest.fixture
def measured_zoo(tmp_path, write_run, make_state):
    """Write two runs whose last accuracy was measured on made-up images; returns the images and labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8, generator=generator)
    images = pixels.float().div(255).sub(0.5).div(0.3)
    labels = run_published(make_state("cnn_s", 2)[0], images).argmax(1)
    labels[:10] = torch.arange(10)
    for seed in (0, 1):
        write_run(tmp_path / f"src/run{seed}", seed=seed)
        logits = run_published(make_state("cnn_s", 100 * seed + 2)[0], images)
        path = tmp_path / f"src/run{seed}/result.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[-1]["test_acc"] = (logits.argmax(1) == labels).double().mean().item()
        path.write_text("\n".join(map(json.dumps, lines)))
    return pixels, labels


def guess_zoo(tmp_path):
    """Make the stored accuracies those of guessing."""
    for path in tmp_path.glob("src/*/result.json"):
        lines = [json.loads(line) | {"test_acc": 0.1} for line in path.read_text().splitlines()]
        path.write_text("\n".join(map(json.dumps, lines)))


def write_images(folder, pixels, labels):
    folder.mkdir()
    split = {"train": torch.arange(0), "val": torch.arange(0), "test": torch.arange(len(labels))}
    images = ImageSet(pixels, labels, split, torch.tensor([0.5]), torch.tensor([0.3]), torch.arange(len(labels)), {})
    write_image_set(folder, images)
    write_record(folder, "images", folder.name, NoConfig(), {})


def test_stored_accuracies_are_measured_again(tmp_path, read, measured_zoo):
    write_images(tmp_path / "noise", *measured_zoo)
    [report] = read(tmp_path, "modelzoo", images=tmp_path / "noise", proof_members=5)
    assert report["proof"]["proved"]
    assert report["proof"]["max_difference"] == pytest.approx(0, abs=1e-6)
    assert [check["epoch"] for check in report["proof"]["checkpoints"]] == [2, 2]


def test_other_images_prove_nothing(tmp_path, read, measured_zoo):
    write_images(tmp_path / "noise", measured_zoo[0], measured_zoo[1].roll(1))
    [report] = read(tmp_path, "modelzoo", images=tmp_path / "noise", proof_members=5)
    assert not report["proof"]["proved"]
    assert report["proof"]["max_difference"] > 0.02


def test_images_that_a_zoo_brings_serve_for_its_proof(tmp_path, read, measured_zoo):
    pixels, labels = measured_zoo
    images = TensorDataset(pixels.float().div(255).sub(0.5).div(0.3), labels)
    torch.save({"trainset": images, "testset": images, "dataset_seed": 42}, tmp_path / "src/dataset.pt")
    [report] = read(tmp_path, "modelzoo", proof_members=1)
    assert report["proof"]["proved"]
    assert report["proof"]["images"] == "dataset.pt"
    assert len(report["proof"]["checkpoints"]) == 1


def test_dataset_without_test_images_is_refused(tmp_path, read, measured_zoo):
    torch.save({"trainset": TensorDataset(torch.zeros(3))}, tmp_path / "src/dataset.pt")
    with pytest.raises(BadInput, match=r"dataset\.pt: has no testset"):
        read(tmp_path, "modelzoo", proof_members=1)


def test_accuracies_of_guessing_prove_nothing(tmp_path, read, measured_zoo):
    guess_zoo(tmp_path)
    write_images(tmp_path / "noise", *measured_zoo)
    [report] = read(tmp_path, "modelzoo", images=tmp_path / "noise", proof_members=5)
    assert "no stored accuracy is above chance" in report["proof"]["why"]


def test_what_could_not_be_proved_is_said(tmp_path, read, measured_zoo):
    [report] = read(tmp_path, "modelzoo", proof_members=5)
    assert report["proof"] == {"proved": False, "why": "no images were given to measure on"}
    write_images(tmp_path / "noise", *measured_zoo)
    structure = find_structure("x", {"0.weight": (7, 64), "0.bias": (7,), "1.weight": (3, 7)}, "chain")
    obstacle = find_obstacle(structure, read_test_images(tmp_path / "noise"), 5)
    assert obstacle is not None
    assert "is not an architecture that can be run" in obstacle


def test_a_small_cnn_zoo_is_measured_again_on_images_of_any_size(tmp_path, read, measured_zoo, write_small_cnn):
    write_images(tmp_path / "noise", measured_zoo[0][..., :20, :20].contiguous(), measured_zoo[1])
    write_small_cnn(tmp_path / "small")
    [report] = read(tmp_path, "small_cnn_zoo", "small", images=tmp_path / "noise", proof_members=5)
    assert len(report["proof"]["checkpoints"]) == 3


def test_images_of_another_size_are_said(tmp_path, read, measured_zoo):
    write_images(tmp_path / "noise", measured_zoo[0][..., :20, :20].contiguous(), measured_zoo[1])
    [report] = read(tmp_path, "modelzoo", images=tmp_path / "noise", proof_members=5)
    assert "cnn_s takes (1, 28, 28)" in report["proof"]["why"]
    assert json.loads((tmp_path / "zoo" / REPORT_NAME).read_text())["proof"] == report["proof"]


def test_proof_needs_a_measured_member_that_is_finite(tmp_path, read, write_run, make_state, measured_zoo):
    state, vector = make_state()
    state["module_list.0.bias"][:] = np.nan
    write_run(tmp_path / "other/x", first=(state, vector))
    write_images(tmp_path / "noise", *measured_zoo)
    [report] = read(tmp_path, "modelzoo", "other", images=tmp_path / "noise", proof_members=5)
    assert "no member has" in report["proof"]["why"]
    assert pd.read_parquet(tmp_path / "zoo")["diverged"].all()
