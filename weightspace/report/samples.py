"""Show what sampled networks can do before any training, beside cheap baselines, and how new they are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightspace.report.blocks import (
    MISSING,
    UNKNOWN,
    Cell,
    Interval,
    Part,
    Plot,
    Section,
    Table,
    format_percent,
    make_cell,
    make_percent_cell,
)
from weightspace.report.labels import MEANINGS, color_row, is_sampled, name_row, order_rows
from weightspace.report.plot import GREY, INK, add_legend, draw_plot
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.statistics import estimate_difference, estimate_mean, name_intervals

FAR = 5
"""Distances beyond this call for a logarithmic axis."""
GOLDEN = 0.6180339887
"""Points at steps of this share of a strip never lump together."""
MARKERS = "osD^vPX*<>hd"


@dataclass(frozen=True)
class Start:
    """What the networks of one row are before any training."""

    row: str
    accuracy: Interval
    """Mean over networks, on test images."""
    values: Float64[np.ndarray, " networks"]
    novelty: dict[str, Interval]
    """By `NOVELTY`."""

    @property
    def top(self) -> float:
        """Return the best network's accuracy."""
        return float(np.nanmax(self.values)) if np.isfinite(self.values).any() else float("nan")


NOVELTY = {
    "nearest_distance": "distance to nearest anchor",
    "error_iou": "errors shared with it",
    "pairwise_distance": "distance in row",
    "pairwise_iou": "errors shared in row",
}


def list_starts(entry: Entry) -> dict[str, Start]:
    """Return the start of every row, in the order of the tables."""
    scores = entry.table("scores")
    starts = {}
    for row in order_rows(words(scores, "row")):
        rows = pick(scores, row=row)
        values = numbers(rows, "test_accuracy")
        starts[row] = Start(row, estimate_mean(values), values, measure_novelty(entry, rows, row))
    return starts


def measure_novelty(entry: Entry, rows: pd.DataFrame, row: str) -> dict[str, Interval]:
    """Gather how far a row's networks are from anchors (means) and from each other (medians over pairs)."""
    pairs = pick(entry.tables["diversity"], row=row) if "diversity" in entry.tables else pd.DataFrame()
    found = {}
    for name in NOVELTY:
        if name in rows:
            found[name] = estimate_mean(rows[name])
        elif name in pairs and len(pairs):
            found[name] = Interval(float(pairs[name].iloc[0]), np.nan, np.nan)
        else:
            found[name] = UNKNOWN
    return found


def find_best(starts: dict[str, Start], belongs: Callable[[str], bool] = is_sampled) -> Start | None:
    """Return the row that starts best of those that belong, or of those drawn in the latent space; None without any."""
    wanted = [start for row, start in starts.items() if belongs(row) and np.isfinite(start.accuracy.value)]
    return max(wanted, key=lambda start: start.accuracy.value, default=None)


def compare_starts(first: Start, second: Start) -> Interval:
    """Return how much better one row starts than another."""
    return estimate_difference(first.values, second.values)


def show_all_samples(study: Study) -> Section:
    """Show every set of samples of a study."""
    entries = study.of("samples")
    parts = [part for entry in entries for part in show_samples(entry, len(entries) > 1)]
    return Section("samples", "Sampled networks", parts)


def show_samples(entry: Entry, named: bool) -> list[Part]:
    """Show one set of samples."""
    starts = list_starts(entry)
    text = (
        f"Accuracy on the test images of {entry.record.config.get('images', 'the zoo')} at epoch 0, before any "
        "training. Anchors are chosen on validation images. A sampler is worth its trouble only where it beats the "
        "rows that need no model, and its samples are new only if they are far from every anchor and err elsewhere."
    )
    plots = [draw_strips(entry, starts), draw_novelty(entry, starts)]
    explained = ("What the rows are", explain_rows([*starts]))
    first = Part(entry.name if named else "", [text], plots)
    return [first, Part(tables=[tabulate_starts(starts)], folded=[explained])]


def explain_rows(rows: list[str]) -> str:
    """Say what each row is, a line each."""
    return "\n".join(f"{name_row(row)}: {MEANINGS[row]}" for row in rows if row in MEANINGS)


def tabulate_starts(starts: dict[str, Start]) -> Table:
    """Tabulate accuracy and novelty of every row."""
    best = find_best(starts)
    rows = [
        [
            Cell(name_row(row)),
            make_percent_cell(start.accuracy, best is not None and row == best.row),
            Cell(format_percent(start.top)),
            *(make_cell(figure, decimals=2) for figure in start.novelty.values()),
            Cell(str(len(start.values))),
        ]
        for row, start in starts.items()
    ]
    columns = ["row", "accuracy, mean, %", "best, %", *NOVELTY.values(), "networks"]
    note = (
        f"Means with {name_intervals('networks')}; in row: medians over pairs of a row's networks. Bold: the best "
        "sampler. Distances are L2 after alignment, in units of the median distance between anchors of different "
        "members. Errors shared: images that both get wrong over images that either does. A distance near 0 or errors "
        f"shared near 1 mark a copy. {MISSING}: not measured."
    )
    return Table("Sampled networks and baselines before any training.", columns, rows, note)


def scatter_strip(number: int) -> Float64[np.ndarray, " points"]:
    """Spread the points of a strip evenly but not in a line, between -1 and 1, without a random draw."""
    return 2 * (GOLDEN * np.arange(1, number + 1) % 1) - 1


def draw_strips(entry: Entry, starts: dict[str, Start]) -> Plot:
    """Draw every network's accuracy, a strip a row, with the mean."""

    def paint(_: Figure, axes: Axes) -> None:
        for height, start in enumerate(starts.values()):
            heights = height + 0.28 * scatter_strip(len(start.values))
            axes.scatter(100 * start.values, heights, s=7, color=color_row(start.row), alpha=0.45, linewidths=0)
            mean = start.accuracy
            axes.plot([100 * mean.low, 100 * mean.high], [height, height], color=INK, linewidth=1.4)
            axes.plot([100 * mean.value], [height], "|", color=INK, markersize=11, markeredgewidth=1.8)
        axes.set_yticks(range(len(starts)), [name_row(row) for row in starts])
        axes.set(xlabel="test accuracy before training, %", xlim=(0, 101), ylim=(len(starts) - 0.5, -0.5))

    means = "; ".join(f"{name_row(row)} {format_percent(start.accuracy.value)}%" for row, start in starts.items())
    caption = "Accuracy before training: each point a network, the bar its row's mean with a 95% interval."
    size = (4.6, 0.9 + 0.3 * len(starts))
    return draw_plot(f"samples_{entry.name}_accuracy", paint, caption, f"Mean accuracy before training: {means}.", size)


def draw_novelty(entry: Entry, starts: dict[str, Start]) -> Plot:
    """Draw accuracy against distance from the nearest anchor: good and new is up and to the right."""
    scores = entry.table("scores")

    def paint(figure: Figure, axes: Axes) -> None:
        for row, marker in zip(starts, MARKERS, strict=False):
            rows = pick(scores, row=row)
            distance, accuracy = numbers(rows, "nearest_distance"), 100 * numbers(rows, "test_accuracy")
            look = {"s": 14, "marker": marker, "color": color_row(row), "linewidths": 0}
            axes.scatter(distance, accuracy, alpha=0.5, **look)
            axes.scatter([], [], label=name_row(row), **look)
        axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
        if np.nanmax(numbers(scores, "nearest_distance")) > FAR:
            axes.set_xscale("symlog", linthresh=1)
        axes.set(
            xlabel="distance to the nearest anchor (1 = between anchors)", ylabel="test accuracy, %", ylim=(0, 101)
        )
        axes.set_xlim(left=-0.03)
        add_legend(figure)

    medians = (
        f"{name_row(row)} {start.novelty['nearest_distance'].value:.2f}"
        for row, start in starts.items()
        if np.isfinite(start.novelty["nearest_distance"].value)
    )
    caption = "Good and new: accuracy against distance from the nearest anchor. Copies lie at the left."
    alt = f"Mean distance to the nearest anchor: {'; '.join(medians)}."
    return draw_plot(f"samples_{entry.name}_novelty", paint, caption, alt, (4.6, 4.7))
