"""Show how each member of a zoo learns: a thin line a member, where it diverged, and what is usual among all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from weightspace.report.blocks import Plot
from weightspace.report.plot import BLUE, GREY, INK, ORANGE, add_legend, draw_plot
from weightspace.report.read import Entry, numbers, pick, words

MOST_LINES = 200
"""At most so many members are drawn of those that diverged, and at most so many of the others."""
SEED = 0
"""Of the choice of members, where there are more."""
BAND = (0.1, 0.5, 0.9)
OUTLYING = (0.005, 0.995)
"""Shares of all losses, beyond which the axis ends."""


@dataclass(frozen=True)
class Measure:
    """A property that is drawn over epochs."""

    column: str
    name: str
    unit: str
    factor: float
    """From the table's numbers to the unit."""


MEASURES = (Measure("test_accuracy", "test accuracy", "%", 100.0), Measure("test_loss", "test loss", "", 1.0))


@dataclass(frozen=True)
class Lines:
    """The learning curves of some members."""

    curves: list[Float64[np.ndarray, "epochs 2"]]
    """Epoch and value of each member, until it diverged."""
    num_members: int
    """Of how many these were chosen."""


def draw_members_curves(entry: Entry) -> list[Plot]:
    """Draw accuracy and loss of each member over epochs; none of a zoo that keeps one epoch or did not measure."""
    sound = pick(entry.table("checkpoints"), diverged=False)
    if len(sound["epoch"].unique()) < 2:
        return []
    known = [one for one in MEASURES if one.column in sound and bool(sound[one.column].notna().to_numpy().any())]
    return [draw_measure(entry, one) for one in known]


def draw_measure(entry: Entry, measure: Measure) -> Plot:
    """Draw one property: a line a member, the median and the middle 80 % of all, crosses where members diverged."""
    table = entry.table("checkpoints")
    diverged = table["member"].isin(words(pick(table, diverged=True), "member"))
    sound = pick(table, diverged=False)
    steady, broken = (choose_lines(sound.loc[diverged[sound.index] == side], measure) for side in (False, True))
    epochs, band = measure_band(sound, measure)

    def paint(figure: Figure, axes: Axes) -> None:
        paint_lines(axes, steady.curves, GREY, "a member", 0.35)
        paint_lines(axes, broken.curves, ORANGE, "a member that diverged", 0.8)
        ends = np.array([curve[-1] for curve in broken.curves]).reshape(-1, 2)
        if len(ends):
            axes.plot(ends[:, 0], ends[:, 1], "x", color=ORANGE, markersize=5, zorder=3, label="its last epoch")
        axes.fill_between(epochs, band[0], band[2], color=BLUE, alpha=0.22, linewidth=0, label="middle 80%")
        axes.plot(epochs, band[1], color=INK, label="median")
        axes.set(xlabel="epoch", ylabel=", ".join(filter(None, (measure.name, measure.unit))), xlim=(0, epochs[-1]))
        limit_values(axes, measure, measure.factor * numbers(sound, measure.column))
        add_legend(figure, 3)

    drawn, unit = len(steady.curves) + len(broken.curves), measure.unit
    alt = (
        f"{measure.name.capitalize()} of {drawn} members over epochs: the median goes from {band[1][0]:.3g}{unit} at "
        f"epoch {epochs[0]:.0f} to {band[1][-1]:.3g}{unit} at epoch {epochs[-1]:.0f}, where 80% of the members lie "
        f"between {band[0][-1]:.3g} and {band[2][-1]:.3g}{unit}."
    )
    name = f"zoo_{entry.name}_members_{measure.column.removeprefix('test_')}"
    return draw_plot(name, paint, describe_lines(measure, steady, broken), alt)


def choose_lines(table: pd.DataFrame, measure: Measure) -> Lines:
    """Read the curves of the members of a table, of so many as are drawn, which a seed chooses."""
    members = words(table, "member")
    chosen = members
    if len(members) > MOST_LINES:
        picked = np.random.default_rng(SEED).choice(len(members), MOST_LINES, replace=False)
        chosen = [members[i] for i in np.sort(picked)]
    rows = table.loc[table["member"].isin(chosen) & table[measure.column].notna()].sort_values(["member", "epoch"])
    points = np.stack([numbers(rows, "epoch"), measure.factor * numbers(rows, measure.column)], axis=1)
    starts = np.flatnonzero(rows["member"].ne(rows["member"].shift()).to_numpy())
    return Lines(np.split(points, starts[1:]) if len(points) else [], len(members))


def measure_band(
    table: pd.DataFrame, measure: Measure
) -> tuple[Float64[np.ndarray, " epochs"], Float64[np.ndarray, "quantiles epochs"]]:
    """Measure the quantiles at `BAND` over all members that have not diverged, at each epoch."""
    groups = table.loc[table[measure.column].notna()].groupby("epoch")[measure.column]
    rows = [(epoch, np.quantile(values.to_numpy(np.float64), BAND)) for epoch, values in groups]
    return np.array([epoch for epoch, _ in rows], np.float64), measure.factor * np.stack([row for _, row in rows], 1)


def paint_lines(axes: Axes, curves: Sequence[np.ndarray], color: str, label: str, alpha: float) -> None:
    """Draw thin lines as one picture, so that the page does not grow with their number."""
    if curves:
        lines = LineCollection(
            curves, colors=color, linewidths=0.6, alpha=alpha, label=label, rasterized=True, zorder=0.9
        )
        axes.add_collection(lines)


def limit_values(axes: Axes, measure: Measure, values: Float[np.ndarray, " rows"]) -> None:
    """Set the axis of values: all of an accuracy; of a loss, which spans many magnitudes, what most members have."""
    if measure.column.endswith("accuracy"):
        axes.set(ylim=(0, 100))
        return
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        low, high = np.quantile(values, OUTLYING)
        axes.set(yscale="log", ylim=(low / 1.1, high * 1.1))


def describe_lines(measure: Measure, steady: Lines, broken: Lines) -> str:
    """Say what is drawn, and how many of how many."""
    parts = [f"The {measure.name} of each member: {count_lines(steady, 'members')}"]
    if broken.num_members:
        parts.append(f"and {count_lines(broken, 'that diverged, up to the last epoch before')}")
    text = " ".join(parts).removesuffix(",")
    ending = "; few losses lie outside." if measure.column.endswith("loss") else "."
    return f"{text}. Median and middle 80% are of all members that have not diverged{ending}"


def count_lines(lines: Lines, what: str) -> str:
    """Say how many lines stand for how many members."""
    drawn, all_of_them = len(lines.curves), lines.num_members
    return f"{drawn:,} {what}" if drawn == all_of_them else f"{drawn:,} of {all_of_them:,} {what}, chosen by chance,"
