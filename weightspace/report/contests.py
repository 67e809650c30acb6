"""Set what was learned against the baselines, on members that neither saw."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from weightspace.report.blocks import UNKNOWN, Interval
from weightspace.report.labels import is_learned, name_features, name_probe, order_targets
from weightspace.report.read import Entry, numbers, pick, words
from weightspace.report.statistics import estimate_r2_lead

MAIN_TARGET = "test_accuracy"


@dataclass(frozen=True)
class Score:
    """What one probe on one feature set reached on unseen members."""

    features: str
    probe: str
    figure: Interval

    @property
    def words(self) -> str:
        """Name probe and feature set."""
        return f"{name_probe(self.probe)} on {name_features(self.features)}"


@dataclass(frozen=True)
class Contest:
    """The best embedding against the best baseline on unseen members, for one target."""

    target: str
    measure: str
    """`r2` or `accuracy`."""
    learned: Score
    baseline: Score
    lead: Interval
    """The embedding's score minus the baseline's."""

    @property
    def verdict(self) -> str:
        """Tell who is ahead by more than chance: `embedding`, `baseline` or `open`; else `neither`."""
        if self.measure == "r2" and max(self.learned.figure.value, self.baseline.figure.value) <= 0:
            return "neither"
        if self.lead.low > 0:
            return "embedding"
        return "baseline" if self.lead.high < 0 else "open"


def find_measure(scores: pd.DataFrame, target: str) -> str:
    """Tell what a target is scored with: R2 for numbers, accuracy for classes."""
    return "r2" if len(pick(scores, target=target, measure="r2")) else "accuracy"


def list_targets(scores: pd.DataFrame) -> list[str]:
    """List the targets in the order of the page."""
    return order_targets(words(scores, "target"))


def find_figure(rows: pd.DataFrame, features: str, measure: str, probe: str, split: str) -> Interval:
    """Return one score of a target with its interval, not-a-number where it was not measured."""
    found = pick(rows, features=features, measure=measure, probe=probe, split=split)
    if found.empty:
        return UNKNOWN
    value, low, high = (float(numbers(found, name)[0]) for name in ("value", "low", "high"))
    return Interval(value, low, high)


def list_scores(scores: pd.DataFrame, target: str, probe: str | None = None) -> list[Score]:
    """List what each feature set and probe reached on unseen members, best first."""
    rows, measure = pick(scores, target=target), find_measure(scores, target)
    found = [
        Score(features, kind, find_figure(rows, features, measure, kind, "test"))
        for features in words(rows, "features")
        for kind in (words(rows, "probe") if probe is None else [probe])
    ]
    measured = [score for score in found if np.isfinite(score.figure.value)]
    return sorted(measured, key=lambda score: (-score.figure.value, score.features, score.probe))


def hold_contest(entry: Entry, target: str, probe: str | None = None) -> Contest | None:
    """Set the best embedding against the best baseline; None where there is no such pair.

    Both are the best in hindsight, on the unseen members themselves; there are more baselines than embeddings to choose
    from, so chance helps the baselines.

    Args:
        probe: the only probe that counts; None for any.
    """
    scores = entry.table("scores")
    ranked = list_scores(scores, target, probe)
    learned = next((score for score in ranked if is_learned(score.features)), None)
    baseline = next((score for score in ranked if not is_learned(score.features)), None)
    if learned is None or baseline is None:
        return None
    lead = measure_lead(entry, target, learned, baseline)
    return Contest(target, find_measure(scores, target), learned, baseline, lead)


def hold_contests(entry: Entry) -> list[Contest]:
    """Set embedding against baseline for every target."""
    contests = [hold_contest(entry, target) for target in list_targets(entry.table("scores"))]
    return [contest for contest in contests if contest is not None]


def find_predictions(entry: Entry, target: str, score: Score) -> pd.DataFrame:
    """Return the predictions of one probe for the checkpoints of unseen members, in a fixed order."""
    if "predictions" not in entry.tables:
        return pd.DataFrame()
    rows = pick(entry.tables["predictions"], target=target, features=score.features, probe=score.probe, split="test")
    return rows.sort_values(["member", "epoch"])


def measure_lead(entry: Entry, target: str, learned: Score, baseline: Score) -> Interval:
    """Return the lead of the embedding with its interval.

    Where both predicted the same checkpoints, members are drawn once for both. Else the interval is the widest that
    the two intervals allow.
    """
    first, second = (find_predictions(entry, target, score) for score in (learned, baseline))
    if len(first) and len(first) == len(second):
        assert (first["member"].to_numpy() == second["member"].to_numpy()).all()
        ours, theirs = numbers(first, "prediction"), numbers(second, "prediction")
        return estimate_r2_lead(numbers(first, "truth"), ours, theirs, first["member"])
    a, b = learned.figure, baseline.figure
    return Interval(a.value - b.value, a.low - b.high, a.high - b.low)
