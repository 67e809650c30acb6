"""Show a zoo: how good its members become, how fast, and what makes the difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weightspace.factors import FACTORS
from weightspace.report.blocks import MISSING, Cell, Part, Plot, Section, Table, format_figure, format_percent
from weightspace.report.labels import name_target
from weightspace.report.members import draw_members_curves
from weightspace.report.plot import BLUE, GREY, INK, SERIES, SMALL, draw_band, draw_plot, label_ends
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.statistics import drop_missing, take_quantiles

MAX_LEVELS = 6
"""A numeric factor with more values than this is shown in thirds."""
AT_MOST = "\N{LESS-THAN OR EQUAL TO}"
BAND = (0.05, 0.25, 0.5, 0.75, 0.95)
DURING = (
    "Loss and accuracy on training images, and so the generalization gap, are means over each epoch's batches as they "
    "were learned from."
)


@dataclass(frozen=True)
class Curves:
    """Quantiles of test accuracy (%) over members at each epoch."""

    epochs: Int64[np.ndarray, " epochs"]
    quantiles: Float64[np.ndarray, "epochs quantiles"]
    """At the shares of `BAND`."""

    @property
    def median(self) -> Float64[np.ndarray, " epochs"]:
        """Take the median curve."""
        return self.quantiles[:, BAND.index(0.5)]

    @property
    def middle(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take the median within the middle half."""
        return self.quantiles[:, 1], self.quantiles[:, 2], self.quantiles[:, 3]


@dataclass(frozen=True)
class Level:
    """One value of a factor, or one third of the members by it."""

    label: str
    members: Bool[np.ndarray, " rows"]
    """Which rows of the table it was made from belong to it."""


def show_zoos(study: Study) -> Section:
    """Show every zoo of a study."""
    entries = study.of("zoo")
    parts = [part for entry in entries for part in show_zoo(entry, len(entries) > 1)]
    return Section("zoo", "The zoo" if len(entries) == 1 else "The zoos", parts)


def show_zoo(entry: Entry, named: bool) -> list[Part]:
    """Show one zoo."""
    table = entry.table("checkpoints")
    ended, learned = (
        len(drop_missing(one["test_accuracy"])) for one in (take_last(table), pick(table, diverged=False))
    )
    plots = [draw(entry) for draw, known in ((draw_accuracies, ended), (draw_curves, learned)) if known]
    texts = [
        describe_sizes(entry),
        *([DURING] if entry.about.get("recipe", {}).get("train_metrics") == "during" else []),
    ]
    first = Part(entry.name if named else "", texts, [*plots, *draw_members_curves(entry)])
    factors = find_factors(table)
    if not factors or not learned:
        return [first]
    text = "Lines are medians, bands hold the middle half of the members. A factor of many numbers is cut into thirds."
    plots = [draw_factor(entry, factor) for factor in factors]
    return [first, Part("By factor", [text], plots, small=True, tables=[tabulate_factors(entry, factors)])]


def count_classes(entry: Entry) -> int | None:
    """Return how many classes the zoo's networks tell apart, None where the zoo does not say."""
    said = entry.about.get("architecture", {})
    blocks = said.get("blocks", [])
    return blocks[-1]["features"] if blocks else said.get("num_classes")


def count_weights(entry: Entry) -> str:
    """Say how many numbers a checkpoint has, of each architecture there is."""
    counts = [f"{layout.num_weights:,}" for layout in entry.layouts]
    return counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} or {counts[-1]}"


def take_last(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the checkpoints of the last epoch that have not diverged."""
    return pick(table, epoch=table["epoch"].max(), diverged=False)


def count_known(table: pd.DataFrame) -> str:
    """Say, to go on a sentence, of how many members the final test accuracy is known; nothing where it is of all."""
    last = take_last(table)["test_accuracy"]
    known = len(drop_missing(last))
    return "" if known == len(last) else f" (known of {known:,} of {len(last):,} members)"


def list_diverged(table: pd.DataFrame) -> list[str]:
    """List the members that diverged at any epoch."""
    return words(pick(table, diverged=True), "member")


def find_factors(table: pd.DataFrame) -> list[str]:
    """List the factors that differ between members."""
    return [name for name in FACTORS if name != "seed" and name in table and len(table[name].dropna().unique()) > 1]


def share_near_chance(entry: Entry) -> float | None:
    """Return the share of members that end below twice the accuracy of guessing, of those whose accuracy is known.

    None where it is known of none, or the number of classes is not.
    """
    num_classes = count_classes(entry)
    known = drop_missing(take_last(entry.table("checkpoints"))["test_accuracy"])
    if num_classes is None or not len(known):
        return None
    return float((known < 2 / num_classes).mean())


def describe_sizes(entry: Entry) -> str:
    """Count members, checkpoints and the diverged."""
    table = entry.table("checkpoints")
    diverged = len(list_diverged(table))
    ending = "None diverged."
    if diverged:
        ending = f"{diverged} diverged and {'is' if diverged == 1 else 'are'} left out from there on."
    return (
        f"{table['member'].nunique():,} members, {len(table):,} checkpoints of {count_weights(entry)} weights, "
        f"epochs 0 (the initial weights) to {table['epoch'].max()}. {ending}"
    )


def measure_curves(table: pd.DataFrame) -> Curves:
    """Measure how test accuracy is spread over members at each epoch, the diverged and the unmeasured left out."""
    groups = pick(table, diverged=False).dropna(subset="test_accuracy").groupby("epoch")["test_accuracy"]
    rows = [(epoch, take_quantiles(values, BAND)) for epoch, values in groups]
    quantiles = np.array([found for _, found in rows]).reshape(-1, len(BAND))
    return Curves(np.array([epoch for epoch, _ in rows], np.int64), 100 * quantiles)


def draw_accuracies(entry: Entry) -> Plot:
    """Draw how final test accuracy is spread over members."""
    last = take_last(entry.table("checkpoints"))
    values = 100 * drop_missing(last["test_accuracy"])
    low, median, high = take_quantiles(values, (0.05, 0.5, 0.95))
    num_classes = count_classes(entry)

    def paint(_: Figure, axes: Axes) -> None:
        axes.hist(values, bins=np.linspace(0, 100, 41).tolist(), color=BLUE)
        axes.set(xlabel="test accuracy at the last epoch, %", ylabel="members", xlim=(0, 100))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        chance = 100 / num_classes if num_classes else 0
        mark_vertical(axes, float(median), f"median {median:.1f}", INK, "-", median > chance)
        if num_classes is not None:
            mark_vertical(axes, chance, "chance", GREY, ":", median <= chance)

    caption = f"How good members are after epoch {last['epoch'].max()}{count_known(last)}."
    alt = (
        f"Histogram of the final test accuracy of {len(values)} members: median {median:.1f}%, "
        f"90% of members between {low:.1f} and {high:.1f}%."
    )
    return draw_plot(f"zoo_{entry.name}_accuracy", paint, caption, alt)


def mark_vertical(axes: Axes, x: float, text: str, color: str, style: str, right: bool) -> None:
    """Draw an upright line with its name above, to the right of it or to the left."""
    axes.axvline(x, color=color, linestyle=style, linewidth=1)
    side = "left" if right else "right"
    axes.annotate(text, (x, 1.02), xycoords=("data", "axes fraction"), ha=side, color=color, fontsize=8)


def draw_curves(entry: Entry) -> Plot:
    """Draw test accuracy over epochs, as bands over all members."""
    curves = measure_curves(entry.table("checkpoints"))
    epochs, num_classes = curves.epochs, count_classes(entry)

    def paint(figure: Figure, axes: Axes) -> None:
        axes.fill_between(epochs, curves.quantiles[:, 0], curves.quantiles[:, -1], color=BLUE, alpha=0.12, linewidth=0)
        draw_band(axes, epochs, curves.middle, BLUE)
        axes.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 100), xlim=(0, max(1, epochs[-1])))
        ends = [
            (float(end), f"{100 * share:.0f}%", BLUE) for end, share in zip(curves.quantiles[-1], BAND, strict=True)
        ]
        if num_classes is not None:
            axes.axhline(100 / num_classes, color=GREY, linestyle=":", linewidth=1)
            ends.append((100 / num_classes, "chance", GREY))
        label_ends(figure, axes, ends)

    caption = "How members learn: median, middle half and middle 90% of the members at each epoch."
    alt = (
        f"Test accuracy over epochs: the median goes from {curves.median[0]:.1f}% at epoch {epochs[0]} "
        f"to {curves.median[-1]:.1f}% at epoch {epochs[-1]}."
    )
    return draw_plot(f"zoo_{entry.name}_curves", paint, caption, alt)


def cut_levels(table: pd.DataFrame, factor: str) -> list[Level]:
    """Cut the rows by the values of a factor, or into thirds of the members where it has many numbers."""
    column = table[factor]
    values = sorted(column.dropna().unique())
    if not pd.api.types.is_numeric_dtype(column) or len(values) <= MAX_LEVELS:
        return [Level(write_value(value), (column == value).to_numpy()) for value in values]
    by_row = numbers(table, factor)
    low, high = np.quantile(numbers(table.drop_duplicates("member"), factor), (1 / 3, 2 / 3))
    return [
        Level(f"{AT_MOST} {write_value(low)}", by_row <= low),
        Level(f"{write_value(low)}{MISSING}{write_value(high)}", (by_row > low) & (by_row <= high)),
        Level(f"> {write_value(high)}", by_row > high),
    ]


def write_value(value: object) -> str:
    """Write one value of a factor."""
    return value if isinstance(value, str) else f"{value:.2g}"


def draw_factor(entry: Entry, factor: str) -> Plot:
    """Draw test accuracy over epochs for each level of a factor."""
    table = entry.table("checkpoints")
    found = [(level.label, measure_curves(table.loc[level.members])) for level in cut_levels(table, factor)]
    levels = [(label, curves) for label, curves in found if len(curves.epochs)]

    def paint(figure: Figure, axes: Axes) -> None:
        figure.set_layout_engine("none")
        axes.set_position((0.15, 0.18, 0.52, 0.7))  # alike in all panels, however long their labels are
        for (_, curves), color in zip(levels, SERIES, strict=False):
            draw_band(axes, curves.epochs, curves.middle, color)
        axes.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 100), xlim=(0, max(1, table["epoch"].max())))
        axes.set_title(name_target(factor), loc="left", fontweight="bold")
        ends = zip(levels, SERIES, strict=False)
        label_ends(figure, axes, [(float(curves.median[-1]), label, color) for (label, curves), color in ends])

    finals = ", ".join(f"{label} {curves.median[-1]:.1f}%" for label, curves in levels)
    alt = f"Learning curves by {name_target(factor)}; median at the last epoch: {finals}."
    return draw_plot(f"zoo_{entry.name}_by_{factor}", paint, f"By {name_target(factor)}.", alt, SMALL)


def tabulate_factors(entry: Entry, factors: list[str]) -> Table:
    """Tell for each factor its values, the accuracy at each level, and how much of the accuracy it explains."""
    table = entry.table("checkpoints")
    rows = []
    for factor in factors:
        levels = [
            (
                level.label,
                drop_missing(
                    pick(table.loc[level.members], epoch=table["epoch"].max(), diverged=False)["test_accuracy"]
                ),
            )
            for level in cut_levels(table, factor)
        ]
        medians = [f"{label}: {format_percent(float(take_quantiles(values, (0.5,))[0]))}" for label, values in levels]
        share = explain_variance([values for _, values in levels])
        cells = name_target(factor), write_range(table, factor), "; ".join(medians), format_figure(share, 2)
        rows.append([Cell(text) for text in cells])
    caption = "Factors that differ between members, and median test accuracy (%) at the last epoch by level"
    note = "Variance explained: the share of the final accuracy's variance that lies between the levels shown."
    return Table(
        f"{caption}{count_known(table)}.",
        ["factor", "values", "accuracy by level", "variance explained"],
        rows,
        note,
        words=True,
    )


def write_range(table: pd.DataFrame, factor: str) -> str:
    """Write what values a factor takes."""
    column = table[factor]
    values = sorted(column.dropna().unique())
    if not pd.api.types.is_numeric_dtype(column) or len(values) <= MAX_LEVELS:
        return ", ".join(write_value(value) for value in values)
    return f"{write_value(values[0])} to {write_value(values[-1])}"


def explain_variance(groups: Sequence[Float[np.ndarray, "_"]]) -> float:
    """Return the share of the variance of all values that lies between groups."""
    everything = np.concatenate(groups)
    if not len(everything):
        return float("nan")
    total = ((everything - everything.mean()) ** 2).sum()
    between = sum(len(group) * (group.mean() - everything.mean()) ** 2 for group in groups if len(group))
    return float(between / total) if total else float("nan")
