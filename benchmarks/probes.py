"""The probe stage: linear probes and intervals of their scores, against scikit-learn and SciPy in loops.

Both sides get the same made-up embeddings, of the quickstart's size, and find the same: a probe a target with the best
of some penalties, then R2 and Kendall's tau with intervals over members. They take turns, in one thread: with more,
what else runs on the machine moved the ratio from 4 to 64. A ratio is that of two neighbouring turns, and the median
over turns counts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from threadpoolctl import threadpool_limits

from weightspace.probes.ridge import Split, predict_by_ridge
from weightspace.probes.scores import BOUNDS, Resampling, Score, draw_resampling, score_kendall_tau, score_r2

MEMBERS, CHECKPOINTS, FEATURES, TARGETS = 512, 11, 144, 7
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)
ROUNDS, TURNS, SEED = 1000, 5, 0
NOISE = 2.0


@dataclass(frozen=True)
class Task:
    """Embeddings, what to predict from them, and who is held out."""

    features: Float64[np.ndarray, "rows features"]
    """Of mean 0 on train rows."""
    targets: Float64[np.ndarray, "rows targets"]
    members: np.ndarray
    split: Split
    test: np.ndarray


def measure() -> dict[str, float]:
    """Measure every figure, and print a table of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            figures = compare()
    finally:
        torch.set_num_threads(before)
    print(f"{MEMBERS * CHECKPOINTS} checkpoints x {FEATURES} numbers, {TARGETS} targets, {len(PENALTIES)} penalties")
    for name, value in figures.items():
        print(f"{name:20} {value:12,.2f}")
    return figures


def compare() -> dict[str, float]:
    """Compare both parts of the stage with loops."""
    task = make_task(MEMBERS)
    fit = partial(predict_by_ridge, task.features, task.targets, task.split, PENALTIES, True)
    truth, guess = task.targets[task.test, 0], fit()[task.test, 0]
    resampling = draw_resampling(task.members[task.test], ROUNDS, SEED)
    fits, loops = take_turns(fit, partial(predict_in_loops, task))
    scores, rounds = take_turns(
        lambda: (score_r2(truth, guess, resampling), score_kendall_tau(truth, guess, resampling)),
        lambda: score_in_loops(truth, guess, resampling),
    )
    return {
        "ridge_over_sklearn": float(np.median(loops / fits)),
        "intervals_over_loop": float(np.median(rounds / scores)),
        "fits_per_s": TARGETS * len(PENALTIES) / float(np.median(fits)),
    }


def make_task(members: int) -> Task:
    """Make up embeddings from which numbers can be predicted, but not well."""
    generator = np.random.default_rng(SEED)
    names = np.repeat([f"m{i:04d}" for i in range(members)], CHECKPOINTS)
    features = generator.standard_normal((len(names), FEATURES))
    targets = features @ generator.standard_normal((FEATURES, TARGETS)) / FEATURES**0.5
    targets += NOISE * generator.standard_normal(targets.shape)
    side = np.repeat(generator.choice(3, members, p=(0.7, 0.15, 0.15)), CHECKPOINTS)
    train, val, test = (np.flatnonzero(side == number) for number in range(3))
    return Task(features - features[train].mean(0), targets, names, Split(train, val), test)


def predict_in_loops(task: Task) -> Float64[np.ndarray, "rows targets"]:
    """Predict as `predict_by_ridge` does, with a fit of scikit-learn to all targets for each penalty."""
    train, val = task.split.train, task.split.val
    probes = [Ridge(penalty).fit(task.features[train], task.targets[train]) for penalty in PENALTIES]
    guesses = np.stack([probe.predict(task.features) for probe in probes])
    goodness = [r2_score(task.targets[val], guess[val], multioutput="raw_values") for guess in guesses]
    best = np.argmax(goodness, axis=0)
    return np.stack([guesses[penalty, :, target] for target, penalty in enumerate(best)], axis=1)


def score_in_loops(
    truth: Float64[np.ndarray, " rows"], guess: Float64[np.ndarray, " rows"], resampling: Resampling
) -> tuple[Score, Score]:
    """Score as `score_r2` and `score_kendall_tau` do, each round by itself from the rows that it takes."""
    sizes, rows, found = np.diff(resampling.starts), np.arange(len(truth)), []
    for counts in resampling.counts:
        chosen = np.repeat(rows, np.repeat(counts.astype(int), sizes))
        found.append(score_rows(truth[chosen], guess[chosen]))
    low, high = np.quantile(found, BOUNDS, axis=0)
    whole = score_rows(truth, guess)
    first, second = (Score(whole[i], float(low[i]), float(high[i])) for i in range(2))
    return first, second


def score_rows(truth: Float64[np.ndarray, " rows"], guess: Float64[np.ndarray, " rows"]) -> tuple[float, float]:
    """Return R2 and Kendall's tau of some rows."""
    ranked: Any = kendalltau(truth, guess)
    return float(r2_score(truth, guess)), float(ranked.statistic)


def take_turns(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[np.ndarray, np.ndarray]:
    """Time two ways in turns, in seconds; what comes before the first turn warms up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS + 1):
        for run, times in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                times.append(time.perf_counter() - start)
    return np.array(seconds[0]), np.array(seconds[1])
