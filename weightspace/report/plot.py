"""Draw figures that look alike and come out the same, byte for byte."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightspace.report.blocks import Plot

# Colours after Okabe and Ito, which people who confuse red and green can tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#007F5F", "#A8537F"
OCHRE, SKY, GREY, INK = "#B07D00", "#3A9BD1", "#777777", "#222222"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, OCHRE, SKY, INK, GREY)
PANEL = (4.6, 3.3)
SMALL = (3.3, 2.5)
DPI = 160
"""Of drawings within a drawing: dense clouds of points."""
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "weightspace",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
Label = tuple[float, str, str]
"""Where a line ends, what it is, its colour."""
Paint = Callable[[Figure, Axes], None]


def draw_plot(name: str, paint: Paint, caption: str, alt: str, size: tuple[float, float] = PANEL) -> Plot:
    """Draw one panel and write it as SVG, with letters as outlines and no date.

    Args:
        paint: draws on empty axes.
        size: width and height in inches.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None, "Title": caption})
    return Plot(name, buffer.getvalue(), caption, alt)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> Float[np.ndarray, " labels"]:
    """Move positions apart until neighbours are at least a gap from each other, within bounds while there is room."""
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    # Least squares under the order: neighbours that collide are pooled, each pool around its mean.
    pools: list[tuple[float, int]] = []
    for wanted in np.asarray(positions, dtype=np.float64)[order] - steps:
        mean, size = float(np.clip(wanted, low, max(low, high - steps[-1]))), 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    placed = np.empty(len(order))
    placed[order] = np.concatenate([np.full(size, mean) for mean, size in pools]) + steps
    return placed


def label_ends(figure: Figure, axes: Axes, labels: Sequence[Label], font_size: float = 8) -> None:
    """Write at the right of a plot what each line is, at the height (in data) where it ends; axes limits stay."""
    bottom, top = axes.get_ylim()
    gap = (top - bottom) * font_size * 1.25 / 72 / (figure.get_figheight() * 0.8)
    heights = spread([height for height, _, _ in labels], gap, bottom, top)
    for height, (_, text, color) in zip(heights, labels, strict=True):
        axes.annotate(
            text,
            (1, float(height)),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=font_size,
            annotation_clip=False,
        )


def draw_band(
    axes: Axes,
    x: np.ndarray,
    lines: tuple[np.ndarray, np.ndarray, np.ndarray],
    color: str,
    style: str = "-",
) -> None:
    """Draw a line within a lighter band.

    Args:
        lines: low, middle and high.
    """
    low, middle, high = lines
    axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(x, middle, style, color=color)


def add_legend(figure: Figure, columns: int = 2) -> None:
    """Put the legend below the panel."""
    figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2, handletextpad=0.3)
