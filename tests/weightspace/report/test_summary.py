import numpy as np
import pandas as pd
import pytest

from tests.weightspace.report import made_up
from tests.weightspace.report.made_up import Plan, write_study
from weightspace.report.blocks import Interval
from weightspace.report.config import ReportConfig
from weightspace.report.contests import Contest, Score, hold_contest
from weightspace.report.read import read_study
from weightspace.report.samples import Start
from weightspace.report.statistics import estimate_mean
from weightspace.report.summary import summarize, write_epoch, write_percent, write_rival, write_verdict


def summarize_made_up(folder, plan):
    """Return the summary's paragraphs by topic."""
    study = read_study(write_study(folder, plan), ReportConfig(title="t"))
    return {paragraph.topic: paragraph.text for paragraph in summarize(study)}


def test_summary_says_that_the_baseline_wins_when_it_wins(tmp_path):
    errors = (("embedding", 0.5), ("statistics_14", 0.1))
    text = summarize_made_up(tmp_path, Plan(num_members=48, error=errors, stages=("probes",)))["Prediction"]
    assert "A baseline does better" in text
    assert "boosted trees on statistics s(W), 14 a layer" in text
    assert "a baseline is ahead on 3 (test accuracy, epoch and learning rate)" in text


def test_summary_says_that_the_embedding_wins_when_it_wins(tmp_path):
    errors = (("embedding", 0.1), ("statistics_14", 0.5))
    text = summarize_made_up(tmp_path, Plan(num_members=48, error=errors, stages=("probes",)))["Prediction"]
    assert "That beats the best baseline" in text
    assert "A baseline" not in text


def test_summary_says_when_chance_decides(tmp_path):
    errors = (("embedding", 0.5), ("embedding_tokens", 0.5))
    text = summarize_made_up(tmp_path, Plan(error=errors, stages=("probes",), classes=False))["Prediction"]
    assert "too little to tell from chance" in text


def test_a_lost_linear_comparison_is_told_too(tmp_path):
    text = summarize_made_up(tmp_path, Plan(stages=("probes",)))["Prediction"]
    assert "With the linear probe on both sides" in text


def test_summary_says_that_samples_beat_random_weights_and_lose_to_cheap_ones(tmp_path):
    text = summarize_made_up(tmp_path, Plan(num_samples=30, stages=("samples",)))["Samples"]
    assert "clearly above random initial weights" in text
    assert "cheap baseline anchor + noise, which needs no model, do better" in text
    assert "The anchors themselves, as trained, do better" in text


def test_summary_says_when_samples_do_not_beat_random_weights(tmp_path, monkeypatch):
    worse = {row: (0.1, 0.5, 0.4) for row in made_up.SAMPLE_ROWS if row.startswith("kde")}
    monkeypatch.setattr(made_up, "SAMPLE_ROWS", {**made_up.SAMPLE_ROWS, **worse})
    text = summarize_made_up(tmp_path, Plan(num_samples=30, stages=("samples",)))["Samples"]
    assert "That is clearly above" not in text


def test_summary_says_who_is_ahead_after_fine_tuning(tmp_path):
    paragraphs = summarize_made_up(tmp_path, Plan(num_samples=30, num_epochs=8, stages=("transfer",)))
    assert list(paragraphs) == ["Fine-tuning on digits", "Fine-tuning on mnist5k"]
    text = paragraphs["Fine-tuning on mnist5k"]
    assert "After 1 epoch the best sampler (joint KDE)" in text
    assert "behind zoo members" in text
    assert "ahead of scratch (Kaiming)" in text.split("After 8")[0]
    assert "ahead of scratch (Kaiming)" not in text.split("After 8")[1]


def test_summary_of_a_zoo_counts_members_and_the_diverged(tmp_path):
    text = summarize_made_up(tmp_path, Plan(stages=("zoo",)))["Zoo"]
    assert text.startswith("16 networks (cnn_s) were trained on digits for 3 epochs; they differ in activation")
    assert "1 diverged" in text


def test_lead_without_predictions_is_as_wide_as_both_intervals_allow(study):
    contest = hold_contest(study.first("probes"), "activation")
    assert (contest.lead.low, contest.lead.high) == pytest.approx((0.05 - 0.04, 0.05 + 0.04))


def test_summary_says_what_accuracy_reconstruction_leaves(tmp_path):
    text = summarize_made_up(tmp_path, Plan(num_members=48, stages=("embeddings",)))["Reconstruction"]
    assert "PCA with as many numbers does worse on unseen members" in text
    assert text.count("Reconstruction takes the test accuracy of unseen members from") == 1


def make_start(row, values):
    return Start(row, estimate_mean(values), np.array(values), {})


def test_a_row_of_one_network_is_told_apart_from_none():
    sampled = make_start("kde_joint", np.random.default_rng(0).normal(0.6, 0.02, 32).tolist())
    text = write_rival(sampled, make_start("anchor_average", [0.9]))
    assert text.endswith("which needs no model, do as well, as far as can be told: 90.0%.")
    assert "do better" in write_rival(sampled, make_start("anchor_average", [0.9, 0.91, 0.89]))


def test_one_network_is_level_with_others_while_it_learns():
    rows = {"kde_joint": np.linspace(0.6, 0.7, 32), "scratch": [0.2], "anchor_noise": [0.9, 0.91, 0.89]}
    curves = pd.concat([pd.DataFrame({"row": row, "epoch": 1, "test_accuracy": x}) for row, x in rows.items()])
    text = write_epoch(curves, 1)
    assert "level with scratch (zoo's init) (20.0%) and behind anchor + noise (90.0%)" in text


def test_a_figure_without_interval_is_written_without_brackets():
    assert write_percent(estimate_mean([0.93])) == "93.0%"


def test_a_lead_over_one_member_decides_nothing():
    one, other = (
        Score(features, "ridge", Interval(r2, r2, r2)) for features, r2 in (("embedding", 0.9), ("weights", 0.5))
    )
    contest = Contest("test_accuracy", "r2", one, other, Interval(0.4, np.nan, np.nan))
    assert write_verdict(contest).endswith("by 0.400: too few members to tell from chance.")
