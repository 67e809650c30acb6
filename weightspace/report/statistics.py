"""Measure how sure a figure is: by drawing its units again, or by Student's t where they are few.

Drawn again, few units repeat themselves: of two, an interval that should hold the truth in 95 of 100 cases holds it in
51, of five in 83, and that of one has no width at all. Bounds are not cut to what a figure can be: an accuracy above 1
among them says that the units are too few to tell.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from weightspace.report.blocks import UNKNOWN, Interval

NUM_DRAWS = 1000
SEED = 20240917
BOUNDS = (0.025, 0.975)
FEW = 20
"""With fewer units, intervals are Student's."""


def name_intervals(units: str) -> str:
    """Name the intervals over some units, as notes on the page do."""
    return f"95% intervals over {units} (bootstrap; of fewer than {FEW}, Student's t)"


@lru_cache(maxsize=8)
def draw_counts(num_units: int) -> Int[np.ndarray, "draws units"]:
    """Draw how often each unit is taken, in every round of the bootstrap; the same for the same number of units."""
    generator = np.random.default_rng([SEED, num_units])
    counts = generator.multinomial(num_units, np.full(num_units, 1 / num_units), size=NUM_DRAWS)
    counts.setflags(write=False)
    return counts


def bound(value: float, draws: Float[np.ndarray, " draws"]) -> Interval:
    """Put the 95% interval of the draws around a value."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(defined, BOUNDS)
    return Interval(float(value), float(low), float(high))


def bound_few(value: float, *deviations: Float[np.ndarray, "_"]) -> Interval:
    """Put the 95% interval by Student's t around the mean of few units; by Welch's around the difference of two means.

    A mean of a single unit has none, and no difference from it has.

    Args:
        deviations: of the units of each sample from their mean.
    """
    if min(len(sample) for sample in deviations) < 2:
        return Interval(value, np.nan, np.nan)
    parts = [(float((sample**2).sum()) / (len(sample) - 1) / len(sample), len(sample) - 1) for sample in deviations]
    square = sum(part for part, _ in parts)
    if square == 0:
        return Interval(value, value, value)
    freedom = 1 / sum((part / square) ** 2 / free for part, free in parts)
    half = float(stdtrit(freedom, BOUNDS[1])) * square**0.5
    return Interval(value, value - half, value + half)


def sum_groups(values: Float[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]) -> Float64[np.ndarray, " groups"]:
    """Add up the values of each group."""
    return np.bincount(groups, weights=values)


def number_groups(names: ArrayLike) -> Int[np.ndarray, " rows"]:
    """Number the groups from 0."""
    return pd.factorize(np.asarray(names), sort=True)[0]


def drop_missing(values: ArrayLike) -> Float64[np.ndarray, " finite"]:
    """Keep the finite values."""
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def take_quantiles(values: ArrayLike, shares: Sequence[float]) -> Float64[np.ndarray, " shares"]:
    """Take quantiles of the finite values; without any, all are not-a-number."""
    finite = drop_missing(values)
    return np.quantile(finite, shares) if len(finite) else np.full(len(shares), np.nan)


def estimate_mean(values: ArrayLike, groups: ArrayLike | None = None) -> Interval:
    """Take the mean of the finite values with its interval, over groups that are drawn whole where there are any.

    Without finite values, all three are not-a-number.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return UNKNOWN
    names = np.arange(len(numbers)) if groups is None else np.asarray(groups)
    numbers, units = numbers[finite], number_groups(names[finite])
    sums, sizes, mean = sum_groups(numbers, units), np.bincount(units), float(numbers.mean())
    if len(sums) < FEW:
        return bound_few(mean, (sums - mean * sizes) / sizes.mean())
    counts = draw_counts(len(sums))
    return bound(mean, (counts @ sums) / (counts @ sizes))


def estimate_difference(first: ArrayLike, second: ArrayLike) -> Interval:
    """Take the difference of two means of independent samples, first minus second, with its interval."""
    a, b = drop_missing(first), drop_missing(second)
    if not len(a) or not len(b):
        return UNKNOWN
    lead = float(a.mean() - b.mean())
    if min(len(a), len(b)) < FEW:
        return bound_few(lead, a - a.mean(), b - b.mean())
    # The second sample takes the draws in reverse, so that two samples of one size are not drawn alike.
    draws = draw_counts(len(a)) @ a / len(a) - draw_counts(len(b))[::-1] @ b / len(b)
    return bound(lead, draws)


def estimate_r2_lead(
    truth: Float[np.ndarray, " rows"],
    first: Float[np.ndarray, " rows"],
    second: Float[np.ndarray, " rows"],
    members: ArrayLike,
) -> Interval:
    """Take R2 of the first predictions minus R2 of the second, both scored on the same drawn members."""
    units = number_groups(members)
    sizes = np.bincount(units)
    center = truth - truth.mean()
    total, squares = sum_groups(center, units), sum_groups(center**2, units)
    gain = sum_groups((second - truth) ** 2 - (first - truth) ** 2, units)
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = float(gain.sum() / squares.sum())
        if len(sizes) < FEW:
            # How far each member moves the ratio, to first order.
            return bound_few(lead, (gain - lead * squares) / squares.mean())
        counts = draw_counts(len(sizes))
        variation = counts @ squares - (counts @ total) ** 2 / (counts @ sizes)
        return bound(lead, (counts @ gain) / variation)


def estimate_over_runs(values: ArrayLike) -> Interval:
    """Take the mean of a few runs with its 95% interval, by Student's t; a single run has none.

    Runs are too few to draw them anew.
    """
    runs = drop_missing(values)
    if not len(runs):
        return UNKNOWN
    return bound_few(float(runs.mean()), runs - runs.mean())
