"""Show how networks learn on from where a sampler puts them, beside other starts on the same budget."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightspace.report.blocks import (
    MISSING,
    Cell,
    Interval,
    Part,
    Plot,
    Section,
    Table,
    format_percent,
    make_percent_cell,
)
from weightspace.report.labels import name_row, order_rows, style_row
from weightspace.report.plot import Label, draw_band, draw_plot, label_ends
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.samples import explain_rows
from weightspace.report.statistics import estimate_mean, name_intervals

SHOWN_EPOCHS = (0, 1, 5, 25, 50)
"""Epochs of the published tables; the last one is shown too."""
Lines = dict[str, list[Interval]]
"""By row, mean test accuracy at each epoch."""


def show_transfers(study: Study) -> Section:
    """Show every transfer of a study."""
    text = (
        "Every row has the same budget: the same images, optimizer, number of epochs and choice of learning rates, of "
        "which a row takes the one that ends best on validation images. Lines are means, bands their "
        f"{name_intervals('networks')}."
    )
    entries = study.of("transfer")
    rows = order_rows({row for entry in entries for row in words(entry.table("curves"), "row")})
    parts = [show_transfer(entry) for entry in entries]
    return Section(
        "transfer",
        "Fine-tuning and transfer",
        [Part(text=[text]), *parts, Part(folded=[("What the rows are", explain_rows(rows))])],
    )


def name_images(entry: Entry) -> str:
    """Return the image set that networks were trained on."""
    return str(entry.record.config["images"])


def list_epochs(curves: pd.DataFrame) -> list[int]:
    """List the epochs that were measured."""
    return sorted(int(epoch) for epoch in curves["epoch"].unique())


def choose_epochs(curves: pd.DataFrame) -> list[int]:
    """Return the epochs that tables show."""
    epochs = list_epochs(curves)
    return [epoch for epoch in epochs if epoch in SHOWN_EPOCHS or epoch == epochs[-1]]


def estimate_accuracy(curves: pd.DataFrame, row: str, epoch: int) -> Interval:
    """Return the mean test accuracy of a row at an epoch, over networks that are still finite."""
    return estimate_mean(pick(curves, row=row, epoch=epoch)["test_accuracy"])


def show_transfer(entry: Entry) -> Part:
    """Show the fine-tuning curves on one image set."""
    curves = entry.table("curves")
    epochs = list_epochs(curves)
    rows = order_rows(words(curves, "row"))
    lines = {row: [estimate_accuracy(curves, row, epoch) for epoch in epochs] for row in rows}
    plots = [
        draw_curves(entry, lines, epochs, (0, 100), "whole"),
        draw_curves(entry, lines, epochs, zoom(lines), "upper"),
    ]
    return Part(f"On {name_images(entry)}", plots=plots, tables=[tabulate_curves(entry, lines)])


def tabulate_curves(entry: Entry, lines: Lines) -> Table:
    """Tabulate mean test accuracy by row and epoch."""
    curves = entry.table("curves")
    epochs = choose_epochs(curves)
    places = [list_epochs(curves).index(epoch) for epoch in epochs]
    best = {place: np.nanmax([line[place].value for line in lines.values()]) for place in places}
    rows = [
        [
            Cell(name_row(row)),
            *(make_percent_cell(line[place], line[place].value == best[place]) for place in places),
            Cell(write_rates(pick(curves, row=row))),
            Cell(str(pick(curves, row=row)["sample"].nunique())),
        ]
        for row, line in lines.items()
    ]
    columns = ["row", *(f"epoch {epoch}" for epoch in epochs), "learning rate", "networks"]
    note = f"Means with {name_intervals('networks')}. Bold: the highest mean at that epoch."
    return Table(f"Test accuracy on {name_images(entry)} (%) by epochs of training.", columns, rows, note)


def write_rates(rows: pd.DataFrame) -> str:
    """Write the learning rate of a row's networks."""
    return ", ".join(f"{rate:g}" for rate in sorted(set(numbers(rows, "lr")))) if "lr" in rows else MISSING


def zoom(lines: Lines) -> tuple[float, float]:
    """Return bounds of accuracy (%) within which most rows differ after the first epoch."""
    means = 100 * np.array([figure.value for line in lines.values() for figure in line[1:] or line])
    low, high = float(np.nanquantile(means, 0.25)), float(np.nanmax(means))
    margin = max(1.0, 0.15 * (high - low))
    return max(0.0, low - margin), min(100.0, high + margin)


def draw_curves(entry: Entry, lines: Lines, epochs: list[int], bounds: tuple[float, float], part: str) -> Plot:
    """Draw mean test accuracy over epochs, a line a row, within bounds (%)."""

    def paint(figure: Figure, axes: Axes) -> None:
        axes.set(xlabel="epoch", ylabel="test accuracy, %", ylim=bounds, xlim=(0, max(1, epochs[-1])))
        for row, line in lines.items():
            low, middle, high = (100 * np.array([getattr(f, name) for f in line]) for name in ("low", "value", "high"))
            draw_band(axes, np.array(epochs), (low, middle, high), *style_row(row))
        label_ends(figure, axes, list_ends(lines, bounds))

    ends = "; ".join(f"{name_row(row)} {format_percent(line[-1].value)}%" for row, line in lines.items())
    caption = f"Test accuracy while training on {name_images(entry)}{', the upper part of it' * (part == 'upper')}."
    alt = f"Test accuracy over epochs; after {epochs[-1]}: {ends}."
    return draw_plot(f"transfer_{entry.name}_{part}", paint, caption, alt, (4.6, 3.6))


def list_ends(lines: Lines, bounds: tuple[float, float]) -> list[Label]:
    """Place the name of each line where it ends; those that end below the bounds get an arrow."""
    ends = []
    for row, line in lines.items():
        height, color = 100 * line[-1].value, style_row(row)[0]
        if np.isfinite(height):
            ends.append((max(height, bounds[0]), name_row(row) + " \N{DOWNWARDS ARROW}" * (height < bounds[0]), color))
    return ends
