"""Say of each figure of a run whether it got worse than it was in the runs before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from benchmarks.figures import FIGURES, Figure
from benchmarks.history import Measured

RECENT = 5
"""Runs before this one, of the same suite and class of machine, that make the reference."""
FEWEST = 3
"""Runs from which a spread is told."""
SPREADS = 3.0
"""Standard deviations of the runs before by which a figure may always be worse."""
WIDEST = 3.0
"""Their spread widens a tolerance so many times at most: a history that jumps about must not excuse everything."""
TO_DEVIATION = 1.4826
"""Standard deviation of normal noise over its median absolute deviation."""
Word = Literal["no reference", "not judged", "worse", "level", "better"]


@dataclass(frozen=True)
class Verdict:
    """What became of one figure."""

    figure: str
    measured: Measured
    reference: Measured | None
    """Medians of the runs before; None if there are none."""
    num_runs: int
    """Runs that the reference is made of."""
    tolerance: float | None
    """Part of the reference by which the figure might have been worse; None if no such part decides."""
    word: Word

    @property
    def change(self) -> float | None:
        """Difference from the reference, as a part of it."""
        if self.reference is None or not self.reference.value:
            return None
        return (self.measured.value - self.reference.value) / abs(self.reference.value)


def judge_figures(figures: Mapping[str, Measured], past: pd.DataFrame) -> list[Verdict]:
    """Judge each figure by the last comparable runs that have it.

    Args:
        past: rows of the history, oldest first, of runs of the same suite and class of machine.
    """
    return [judge_figure(name, measured, past.loc[past["figure"] == name]) for name, measured in figures.items()]


def judge_figure(name: str, measured: Measured, past: pd.DataFrame) -> Verdict:
    """Judge one figure by its rows of the history."""
    figure, recent = FIGURES[name], past.tail(RECENT)
    if recent.empty:
        return Verdict(name, measured, None, 0, None, "no reference" if figure.judged else "not judged")
    reference = take_median(recent)
    if not figure.judged:
        return Verdict(name, measured, reference, len(recent), None, "not judged")
    if figure.kind == "science":
        word = compare_intervals(figure, measured, reference)
        return Verdict(name, measured, reference, len(recent), None, word)
    tolerance = widen_tolerance(figure, recent["value"].to_numpy(), reference.value)
    word = compare_values(figure, measured.value, reference.value, tolerance)
    return Verdict(name, measured, reference, len(recent), tolerance, word)


def take_median(rows: pd.DataFrame) -> Measured:
    """Take the medians of a figure's values and of its bounds, if it has any."""
    middle = {name: float(np.median(rows[name].to_numpy(np.float64))) for name in ("value", "low", "high")}
    low, high = (None if np.isnan(middle[name]) else middle[name] for name in ("low", "high"))
    return Measured(middle["value"], low, high)


def widen_tolerance(figure: Figure, values: np.ndarray, reference: float) -> float:
    """Widen a figure's tolerance to what its noise alone could do, if that is more."""
    assert figure.tolerance is not None
    if len(values) < FEWEST:
        return figure.tolerance
    spread = SPREADS * TO_DEVIATION * float(np.median(np.abs(values - reference))) / abs(reference)
    return min(max(figure.tolerance, spread), WIDEST * figure.tolerance)


def compare_values(figure: Figure, value: float, reference: float, tolerance: float) -> Word:
    """Say on which side of the tolerance a value lies."""
    gain = value - reference if figure.better == "higher" else reference - value
    if abs(gain) <= tolerance * abs(reference):
        return "level"
    return "better" if gain > 0 else "worse"


def compare_intervals(figure: Figure, measured: Measured, reference: Measured) -> Word:
    """Say whether one interval lies wholly beside the other, and on which side."""
    assert measured.low is not None
    assert measured.high is not None
    assert reference.low is not None
    assert reference.high is not None
    if measured.high < reference.low:
        return "worse" if figure.better == "higher" else "better"
    if measured.low > reference.high:
        return "better" if figure.better == "higher" else "worse"
    return "level"
