"""One tiny study, for real, through each door."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).parents[2]
STAGES = ("images", "zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer", "report")

# What makes the quickstart study tiny.
TINY = {
    "images.digits.split.train": 100,
    "images.digits.split.val": 50,
    "images.digits.split.test": 50,
    "images.mnist5k": None,
    "zoo.digits.members.count": 20,
    "zoo.digits.epochs": 2,
    "zoo.digits.shard_size": 10,
    "weights.digits.alignment.max_sweeps": 2,
    "hyperrep.digits.training.steps": 4,
    "hyperrep.digits.training.validate_every": 2,
    "hyperrep.digits.training.batch_size": 8,
    "hyperrep.digits.training.validation_rows": 8,
    "hyperrep.digits.model.d_model": 8,
    "hyperrep.digits.model.num_heads": 2,
    "hyperrep.digits.model.num_layers": 1,
    "hyperrep.digits.model.d_latent": 2,
    "hyperrep.digits.model.d_projection": 4,
    "embeddings.digits.kept_networks": 2,
    "probes.digits.every_epochs": 1,
    "probes.digits.resamples": 5,
    "probes.digits.features": ["embedding", "weights"],
    "probes.digits.targets": ["test_accuracy", "epoch", "activation"],
    "probes.digits.boosted.targets": [],
    "samples.digits.num_samples": 4,
    "transfer.digits.num_per_row": 2,
    "transfer.digits.epochs": 1,
    "transfer.digits.rows": ["scratch", "members", "kde_joint"],
    "transfer.mnist5k": None,
}


def write_tiny_params(path: Path, root: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((CHECKOUT / "params.yaml").read_text())
    params["root"] = root
    for place, value in TINY.items():
        *sections, key = place.split(".")
        section: dict[str, Any] = params
        for name in sections:
            section = section[name]
        assert key in section, f"params.yaml has no {place}; make the tiny study another way"
        if value is None:
            del section[key]
        else:
            section[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        yaml.dump(params, file)


@pytest.fixture
def project(checkout):
    """A checkout with this code and the tiny study, as after a clone."""
    write_tiny_params(checkout.root / "params.yaml", ".")
    return checkout


def test_dvc_door_from_images_to_report(project):
    result = project.dvc("repro")
    assert result.returncode == 0, result.stderr
    assert (project.root / "data/report/quickstart/report.html").stat().st_size > 10_000
    for stage in STAGES:
        (note,) = (project.root / "data/.work/runs" / stage).iterdir()
        assert json.loads(note.read_text())["device"] == "cpu"
    metrics = project.dvc("metrics", "show", "--json").stdout
    assert "accuracy_mean" in metrics
    assert project.dvc("plots", "show", "--json").returncode == 0
    lock = (project.root / "dvc.lock").read_text()
    again = project.dvc("repro", "--single-item", "--force", "zoo@digits")
    assert again.returncode == 0, again.stderr
    assert (project.root / "dvc.lock").read_text() == lock, "the same inputs did not give the same bytes"


@pytest.mark.server
def test_prefect_door_runs_a_study_beside_the_root(project):
    study = project.root / "studies" / "tiny"
    write_tiny_params(study / "params.yaml", "../..")
    (study / "dvc.yaml").symlink_to("../../dvc.yaml")
    result = project.run("-m", "flows.pipeline", "--study", "studies/tiny")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "report: studies/tiny/data/report/quickstart/report.html"
    assert "9 stages" in result.stdout
    assert result.stderr == ""
    assert not (project.root / "data").exists()
    assert "up to date" in project.dvc("--cd", "studies/tiny", "repro").stdout
