"""Predict every target from every set of features, and score the predictions."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from weightspace.config import BadInput
from weightspace.embeddings.embeddings import Embeddings
from weightspace.probes.boosted import predict_by_boosting
from weightspace.probes.config import ClassTarget, ProbesConfig, Scaling
from weightspace.probes.features import Features, ProbeData, build_features, gather_probe_data, read_number
from weightspace.probes.logistic import predict_by_logistic, predict_majority
from weightspace.probes.ridge import Split, predict_by_ridge
from weightspace.probes.scaling import scale_columns
from weightspace.probes.scores import draw_resampling, score_accuracy, score_kendall_tau, score_r2
from weightspace.weights.weight_data import WeightData

logger = logging.getLogger(__name__)
CLASS_TARGETS = get_args(ClassTarget)
SPLITS = ("train", "val", "test")
PREDICTION_COLUMNS = ["target", "features", "probe", "member", "epoch", "split", "truth", "prediction"]


@dataclass(frozen=True)
class Prediction:
    """What one probe says of every checkpoint."""

    target: str
    features: str
    probe: str
    values: np.ndarray
    """Numbers, or the names of classes."""


@dataclass(frozen=True)
class ProbeTables:
    """The tables of a set of probes."""

    scores: pd.DataFrame
    """A row for each target, features, probe, split and measure: value, 95 % interval, members and checkpoints."""
    predictions: pd.DataFrame
    """A row for each checkpoint and probe of a number: truth and prediction."""


def run_probes(
    config: ProbesConfig, data: Mapping[str, WeightData] | WeightData, embeddings: Embeddings
) -> ProbeTables:
    """Fit probes on train members, choose their penalties on validation members and score them on every side.

    Args:
        data: of several layouts, by name.

    Raises:
        BadInput: a target is unknown to the data, members are too few, or embeddings are of other weights.
    """
    chosen = gather_probe_data(config, data, embeddings)
    truths = read_targets(config, chosen)
    predictions = list(predict_targets(config, chosen, truths))
    return ProbeTables(score_predictions(config, chosen, truths, predictions), list_rows(chosen, truths, predictions))


def read_targets(config: ProbesConfig, data: ProbeData) -> dict[str, np.ndarray]:
    """Read the columns to predict; one that does not vary among train members is left out."""
    truths: dict[str, np.ndarray] = {}
    train = data.rows("train")
    for target in config.targets:
        if target not in data.table:
            raise BadInput(f"targets: got {target!r}, but weights {config.weights} has no such column")
        if gaps := int(data.table[target].isna().to_numpy().sum()):
            raise BadInput(
                f"targets: got {target!r}, which weights {config.weights} does not know of {gaps} of {len(data.table)} "
                "checkpoints, wanted one that it knows of all"
            )
        is_class = target in CLASS_TARGETS
        values = data.table[target].to_numpy(str) if is_class else read_number(data.table, target)
        if len(np.unique(values[train])) < 2:
            logger.info("target %s is the same for all train members and left out", target)
            continue
        truths[target] = values
    return truths


def predict_targets(config: ProbesConfig, data: ProbeData, truths: dict[str, np.ndarray]) -> Iterator[Prediction]:
    """Yield the predictions of every probe."""
    split = Split(data.rows("train"), data.rows("val"))
    numbers = {target: truth for target, truth in truths.items() if target not in CLASS_TARGETS}
    classes = {target: truth for target, truth in truths.items() if target in CLASS_TARGETS}
    for target, truth in classes.items():
        yield Prediction(target, "majority", "logistic", predict_majority(truth, split))
    for name in config.features:
        features = build_features(name, data)
        logger.info("probes on %s: %d features", name, features.values.shape[1])
        scaling = config.ridge.scaling
        scaled = scale_features(features, split, scaling)
        yield from predict_linearly(config, scaled, numbers, split)
        scaled = scale_features(features, split, "standard") if scaling == "none" else scaled
        yield from predict_classes(config, scaled, classes, split)
        yield from predict_with_trees(config, features, numbers, split)


def scale_features(features: Features, split: Split, scaling: Scaling) -> Features:
    """Scale a set of features by its train rows."""
    return replace(features, values=scale_columns(features.values, split.train, scaling))


def predict_linearly(
    config: ProbesConfig, scaled: Features, numbers: dict[str, np.ndarray], split: Split
) -> Iterator[Prediction]:
    """Yield ridge predictions of all numbers.

    Targets that no column states share one fit; for the others those columns are left out first.
    """
    ridge = config.ridge
    shared = [target for target in numbers if target not in scaled.answers]
    for targets in [shared, *([target] for target in numbers if target in scaled.answers)]:
        values = scaled.leave_out(targets[0]).values if targets else scaled.values[:, :0]
        if values.shape[1]:
            truth = np.stack([numbers[target] for target in targets], axis=1).astype(np.float64)
            found = predict_by_ridge(values, truth, split, ridge.penalties, ridge.scaling != "none")
            yield from (Prediction(t, scaled.name, "ridge", found[:, i]) for i, t in enumerate(targets))


def predict_classes(
    config: ProbesConfig, scaled: Features, classes: dict[str, np.ndarray], split: Split
) -> Iterator[Prediction]:
    """Yield logistic predictions of all classes."""
    logistic = config.logistic
    for target, truth in classes.items():
        values = scaled.leave_out(target).values
        if values.shape[1]:
            found = predict_by_logistic(values, truth, split, logistic.penalties, logistic.iterations)
            yield Prediction(target, scaled.name, "logistic", found)


def predict_with_trees(
    config: ProbesConfig, features: Features, numbers: dict[str, np.ndarray], split: Split
) -> Iterator[Prediction]:
    """Yield boosted predictions of some numbers, unless the features are too many."""
    for target, truth in numbers.items():
        values = features.leave_out(target).values
        if target in config.boosted.targets and 0 < values.shape[1] <= config.boosted.widest:
            found = predict_by_boosting(values, truth, split, config.boosted, config.seed)
            yield Prediction(target, features.name, "boosted", found)


def score_predictions(
    config: ProbesConfig, data: ProbeData, truths: dict[str, np.ndarray], predictions: list[Prediction]
) -> pd.DataFrame:
    """Score each prediction on each side of the split."""
    with threadpool_limits(1):  # many small products
        return pd.DataFrame(list_scores(config, data, truths, predictions))


def list_scores(
    config: ProbesConfig, data: ProbeData, truths: dict[str, np.ndarray], predictions: list[Prediction]
) -> Iterator[dict[str, object]]:
    """Yield one row for each prediction, side of the split and measure."""
    for split in SPLITS:
        chosen = data.rows(split)
        resampling = draw_resampling(data.table["member"].to_numpy(str)[chosen], config.resamples, config.seed)
        sizes = {"num_members": len(resampling.starts) - 1, "num_checkpoints": len(chosen)}
        for p in predictions:
            truth, guess = truths[p.target][chosen], p.values[chosen]
            if p.target in CLASS_TARGETS:
                scores = {"accuracy": score_accuracy(truth, guess, resampling)}
            else:
                r2, tau = score_r2(truth, guess, resampling), score_kendall_tau(truth, guess, resampling)
                scores = {"r2": r2, "kendall_tau": tau}
            names = {"target": p.target, "features": p.features, "probe": p.probe, "split": split}
            for measure, score in scores.items():
                bounds = {"value": score.value, "low": score.low, "high": score.high}
                yield {**names, "measure": measure, **bounds, **sizes}


def list_rows(data: ProbeData, truths: dict[str, np.ndarray], predictions: list[Prediction]) -> pd.DataFrame:
    """Lay out truth and prediction of every number."""
    parts: list[pd.DataFrame] = []
    for p in predictions:
        if p.target in CLASS_TARGETS:
            continue
        part = data.table[["member", "epoch", "split"]].copy()
        part.insert(0, "probe", p.probe)
        part.insert(0, "features", p.features)
        part.insert(0, "target", p.target)
        parts.append(part.assign(truth=truths[p.target].astype(np.float32), prediction=p.values.astype(np.float32)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=pd.Index(PREDICTION_COLUMNS))


def write_probes(folder: Path, tables: ProbeTables) -> None:
    """Write the tables of a set of probes into a folder that exists."""
    for name, table in (("scores", tables.scores), ("predictions", tables.predictions)):
        table.to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)
