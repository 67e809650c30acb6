"""Score predictions, with intervals that count members, not checkpoints."""

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Float64, Int64

BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Score:
    """One figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """Members of some rows, and how often each round of a bootstrap takes each.

    Checkpoints of one member are alike, so they are drawn together: drawing checkpoints would make intervals several
    times too narrow. All scores of the same rows share their rounds.
    """

    starts: Int64[np.ndarray, " bounds"]
    """Where the rows of each member start, and at last the number of rows; rows of one member lie together."""
    counts: Float64[np.ndarray, "rounds members"]

    def sum_members(self, values: Float[np.ndarray, " rows"]) -> Float64[np.ndarray, " members"]:
        """Add up each member's rows."""
        return np.add.reduceat(values.astype(np.float64), self.starts[:-1])


def draw_resampling(members: np.ndarray, rounds: int, seed: int) -> Resampling:
    """Draw as many members as there are, with replacement, for each round.

    Args:
        members: name of each row's member; rows of one member lie together.
    """
    changes = np.flatnonzero(members[1:] != members[:-1]) + 1
    starts = np.concatenate([[0], changes, [len(members)]]).astype(np.int64)
    num = len(starts) - 1
    assert len(np.unique(members)) == num, "rows of one member must lie together"
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=rounds)
    return Resampling(starts, counts.astype(np.float64))


def bound_score(value: float, rounds: Float64[np.ndarray, " rounds"]) -> Score:
    """Put a value beside the percentile interval of its rounds; what is undefined is not-a-number."""
    value = value if np.isfinite(value) else np.nan
    defined = rounds[np.isfinite(rounds)]
    low, high = np.quantile(defined, BOUNDS) if len(defined) else (np.nan, np.nan)
    return Score(float(value), float(low), float(high))


def score_r2(
    truth: Float[np.ndarray, " rows"], prediction: Float[np.ndarray, " rows"], resampling: Resampling
) -> Score:
    """Score by the part of the variance explained: 1 is perfect, 0 is the mean of these rows."""
    center = truth.mean()  # keeps the sums of squares small, and with them the rounding
    size = resampling.sum_members(np.ones(len(truth)))
    total = resampling.sum_members(truth - center)
    square = resampling.sum_members((truth - center) ** 2)
    error = resampling.sum_members((truth - prediction) ** 2)

    def explain(counts: Float64[np.ndarray, "rounds members"]) -> Float64[np.ndarray, " rounds"]:
        spread = counts @ square - (counts @ total) ** 2 / (counts @ size)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - (counts @ error) / spread

    everyone = np.ones((1, len(size)))
    return bound_score(explain(everyone)[0], explain(resampling.counts))


def score_accuracy(truth: np.ndarray, prediction: np.ndarray, resampling: Resampling) -> Score:
    """Score by the part of the rows that are right."""
    size = resampling.sum_members(np.ones(len(truth)))
    right = resampling.sum_members((truth == prediction).astype(np.float64))
    return bound_score(right.sum() / size.sum(), (resampling.counts @ right) / (resampling.counts @ size))


def score_kendall_tau(
    truth: Float[np.ndarray, " rows"], prediction: Float[np.ndarray, " rows"], resampling: Resampling
) -> Score:
    """Score by Kendall's tau-b: pairs in the right order less pairs in the wrong one, 1 to -1.

    Pairs are counted once for each two members; a round then only weighs the counts, which is exact.
    """
    pairs = count_pairs(truth.astype(np.float64), prediction.astype(np.float64), resampling.starts)

    def rank(counts: Float64[np.ndarray, "rounds members"]) -> Float64[np.ndarray, " rounds"]:
        agree, apart, predicted_apart = (((counts @ table) * counts).sum(1) for table in pairs)
        with np.errstate(divide="ignore", invalid="ignore"):
            return agree / np.sqrt(apart * predicted_apart)

    everyone = np.ones((1, len(resampling.starts) - 1))
    return bound_score(rank(everyone)[0], rank(resampling.counts))


@numba.njit
@no_type_check
def count_pairs(truth, prediction, starts):  # noqa: ANN001, ANN201
    """Count, for each two members, pairs of their rows: right less wrong order, truth apart, prediction apart."""
    members = len(starts) - 1
    tables = np.zeros((3, members, members))
    for i in range(members):
        for j in range(i, members):
            agree, apart, predicted_apart = 0, 0, 0
            for a in range(starts[i], starts[i + 1]):
                for b in range(starts[j], starts[j + 1]):
                    true = int(truth[a] > truth[b]) - int(truth[a] < truth[b])
                    guess = int(prediction[a] > prediction[b]) - int(prediction[a] < prediction[b])
                    agree += true * guess
                    apart += true * true
                    predicted_apart += guess * guess
            tables[0, i, j] = tables[0, j, i] = agree
            tables[1, i, j] = tables[1, j, i] = apart
            tables[2, i, j] = tables[2, j, i] = predicted_apart
    return tables
