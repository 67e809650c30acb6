import numpy as np
import pytest
from pydantic import ValidationError

from tests.weightspace.report.made_up import AnyConfig, Plan, make_table, write_kept
from weightspace.config import BadInput
from weightspace.record import write_record
from weightspace.report.config import ReportConfig
from weightspace.report.metrics import gather_metrics
from weightspace.report.page import build_report
from weightspace.report.read import read_study
from weightspace.report.sweeps import gather_changes, gather_curve, gather_runs, summarize_sweeps, tabulate_changes

SEEDS = 3
CURVE = {
    "kind": "curve",
    "title": "Over members",
    "text": "Two arms.",
    "axis": "training members",
    "values": [64, 256],
    "arms": {
        arm: {"label": f"{arm} arm", "embeddings": [[f"{arm}_{n}_s{s}" for s in range(SEEDS)] for n in (64, 256)]}
        for arm in ("good", "poor")
    },
}
CELLS = {
    "kind": "changes",
    "title": "One at a time",
    "text": "Two changes.",
    "base": [f"good_64_s{s}" for s in range(SEEDS)],
    "changes": {
        "better": {"factor": "members", "value": "256", "embeddings": [f"good_256_s{s}" for s in range(SEEDS)]},
        "worse": {"factor": "arm", "value": "poor", "embeddings": [f"poor_64_s{s}" for s in range(SEEDS)]},
    },
}
UNSEEN = {"good_64": 0.6, "good_256": 0.9, "poor_64": 0.3, "poor_256": 0.4}
"""Share of what is above chance that reconstructions of unseen members keep."""
CONFIG = ReportConfig.model_validate({"title": "t", "sweeps": {"members": CURVE, "factors": CELLS}})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweeps")
    table = make_table(Plan(num_members=16, num_epochs=1), np.random.default_rng(0))
    for name, unseen in UNSEEN.items():
        for seed in range(SEEDS):
            folder = root / "embeddings" / f"{name}_s{seed}"
            folder.mkdir(parents=True)
            share = unseen + 0.01 * seed
            write_kept(folder, table, {"hyperrep": (0.95, share), "untrained": (0.2, 0.2), "pca": (1.0, 0.1)})
            write_record(folder, "embeddings", f"{name}_s{seed}", AnyConfig(), {})
    return root


@pytest.fixture(scope="module")
def study(data):
    return read_study(data, CONFIG.model_copy(update={"show": {"embeddings": ()}}))


def test_figures_are_means_over_seeds(study):
    runs = gather_runs(study, ("good_64_s0", "good_64_s1", "good_64_s2"))
    error = runs.estimate("error")
    assert error.value == pytest.approx(1 - 0.61)
    assert error.high - error.value == pytest.approx(4.3027 * 0.01 / np.sqrt(3), rel=1e-3)


def test_accuracy_kept_is_a_share_of_the_originals(study):
    kept = study.swept["good_64_s0"].table("kept")
    rows = kept[(kept["method"] == "hyperrep") & (kept["split"] == "test")]
    wanted = rows["test_accuracy_reconstructed"].mean() / rows["test_accuracy"].mean()
    assert gather_runs(study, ("good_64_s0",)).estimate("kept_share").value == pytest.approx(wanted)


def test_each_value_of_a_curve_has_its_own_embeddings(study):
    curve = gather_curve(study, CONFIG.sweeps["members"])
    errors = {arm: [run.estimate("error").value for run in runs] for arm, runs in curve.items()}
    assert errors == {"good": pytest.approx([0.39, 0.09]), "poor": pytest.approx([0.69, 0.59])}


def test_differences_are_taken_seed_by_seed(study):
    base, cells = gather_changes(study, CONFIG.sweeps["factors"])
    difference = cells["worse"].compare(base, "error")
    assert difference.value == pytest.approx(0.3)
    assert difference.high - difference.low < 1e-6


def test_only_clear_differences_are_bold(study):
    sweep = CONFIG.sweeps["factors"]
    base, cells = gather_changes(study, sweep)
    rows = {row[0].text: row[-1].best for row in tabulate_changes(sweep, base, cells | {"better": base}).rows}
    assert rows["arm: poor"]
    assert not rows["members: 256"]


def test_page_shows_each_sweep_with_baselines(study):
    report = build_report(study, CONFIG)
    assert {plot.name for plot in report.plots} == {"sweep_members_error", "sweep_members_kept_share"}
    for words in (
        "Over members",
        "One at a time",
        "Two arms.",
        "good arm: 256",
        "Two changes.",
        "arm: poor",
        "PCA of the same size",
    ):
        assert words in report.html


def test_summary_says_where_enough_is_kept_and_which_changes_help(study):
    curve, cells = (paragraph.text for paragraph in summarize_sweeps(study))
    assert "Good arm" in curve
    assert "80% from 256 on" in curve
    assert "nowhere 80%" in curve
    assert "Better than that: members 256" in cells
    assert "Worse: arm poor" in cells


def test_metrics_name_arm_value_figure_and_side(study):
    sweeps = gather_metrics(study)["sweeps"]
    assert sweeps["members"]["good"]["256"]["error_unseen"] == pytest.approx(0.09)
    assert sweeps["members"]["good"]["256"]["pca_error_seen"] == pytest.approx(0)
    assert {"kept_share_seen", "kept_share_unseen_low", "untrained_agreement_unseen"} <= set(sweeps["factors"]["base"])
    assert sweeps["factors"]["worse"]["difference_error"] == pytest.approx(0.3)


def test_embeddings_that_ran_no_networks_are_named(data, tmp_path):
    folder = tmp_path / "embeddings/good_64_s0"
    folder.mkdir(parents=True)
    write_record(folder, "embeddings", "good_64_s0", AnyConfig(), {})
    with pytest.raises(BadInput, match=r"embeddings/good_64_s0: no kept.parquet for sweeps.members, wanted its kept_n"):
        read_study(tmp_path, CONFIG.model_copy(update={"show": {"embeddings": ()}}))


@pytest.mark.parametrize(
    ("sweep", "change", "message"),
    [
        (CURVE, {"values": [256, 64]}, "ascending order"),
        (CURVE, {"values": [64, 256, 1024]}, "arm 'good' has embeddings for 2 of 3 values"),
        (CELLS, {"base": ["good_64_s0"]}, "one a seed, everywhere in a sweep, got 1, but 3 where"),
    ],
)
def test_a_sweep_that_does_not_fit_together_is_refused(sweep, change, message):
    with pytest.raises(ValidationError, match=message):
        ReportConfig.model_validate({"title": "t", "sweeps": {"s": sweep | change}})
