import json
import math

import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.report.config import ReportConfig
from weightspace.report.metrics import gather_metrics
from weightspace.report.read import read_study

ALL = ReportConfig(title="t")


def flatten(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.fixture(scope="session")
def metrics(study):
    return dict(flatten(gather_metrics(study)))


@pytest.mark.parametrize(
    "key",
    [
        "zoo.num_members",
        "zoo.accuracy_median",
        "reconstruction.seen",
        "reconstruction.unseen",
        "reconstruction.pca_unseen",
        "reconstruction.layers.conv1.unseen",
        "reconstruction.accuracy_kept_unseen",
        "latent.effective_rank_unseen",
        "reconstruction.agreement_seen_low",
        "reconstruction.untrained_accuracy_kept_unseen",
        "reconstruction.pca_accuracy_kept_seen",
        "probes.test_accuracy.embedding.r2",
        "probes.test_accuracy.embedding.r2_low",
        "probes.test_accuracy.embedding.r2_high",
        "probes.test_accuracy.embedding.kendall_tau",
        "probes.test_accuracy.statistics_14.boosted_r2",
        "probes.activation.weights.accuracy",
        "comparison.test_accuracy.lead",
        "samples.kde_joint.accuracy_mean",
        "samples.kde_joint.accuracy_mean_low",
        "samples.random_init.accuracy_mean_high",
        "samples.anchor_noise.nearest_distance",
        "transfer.digits.scratch.accuracy_at.0",
        "transfer.mnist5k.kde_joint.accuracy_at.1",
        "transfer.mnist5k.kde_joint.accuracy_at.3_low",
    ],
)
def test_key_is_there(metrics, key):
    assert key in metrics


def test_every_figure_is_a_finite_number(metrics):
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())


def test_every_interval_holds_its_figure(metrics):
    bounded = [key for key in metrics if f"{key}_low" in metrics]
    assert len(bounded) > 50
    assert all(metrics[f"{key}_low"] <= metrics[key] <= metrics[f"{key}_high"] for key in bounded)


def test_the_figures_are_the_means_of_the_tables(study, metrics):
    scores = study.first("samples").table("scores")
    mean = scores.loc[scores["row"] == "kde_joint", "test_accuracy"].mean()
    assert metrics["samples.kde_joint.accuracy_mean"] == pytest.approx(mean, abs=1e-6)
    curves = study.of("transfer")[0].table("curves")
    mean = curves.loc[(curves["row"] == "members") & (curves["epoch"] == 1), "test_accuracy"].mean()
    assert metrics["transfer.digits.members.accuracy_at.1"] == pytest.approx(mean, abs=1e-6)


def test_probe_figures_are_those_of_unseen_members(study, metrics):
    scores = study.first("probes").table("scores").set_index(["target", "features", "probe", "split", "measure"])
    wanted = scores.loc[("epoch", "weights", "ridge", "test", "r2"), "value"]
    assert metrics["probes.epoch.weights.r2"] == pytest.approx(wanted, abs=1e-6)


def test_json_has_no_literal_outside_the_standard(study):
    assert json.loads(json.dumps(gather_metrics(study), allow_nan=False)) == gather_metrics(study)


def test_a_second_entry_leaves_the_keys_of_the_first_alone(tmp_path):
    data = write_study(tmp_path, Plan(stages=("samples",)))
    one = gather_metrics(read_study(data, ALL))
    copy = data / "samples" / "other"
    copy.mkdir()
    for path in (data / "samples" / "main").iterdir():
        (copy / path.name).write_bytes(path.read_bytes().replace(b'"name":"main"', b'"name":"other"'))
        (copy / path.name).write_bytes((copy / path.name).read_bytes().replace(b'"name": "main"', b'"name": "other"'))
    two = gather_metrics(read_study(data, ALL))
    assert two.pop("more") == {"samples": {"other": one}}
    assert two == one
