"""Draw how figures went from run to run, a panel each."""

import io
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.figures import FIGURES
from benchmarks.history import Run
from benchmarks.verdicts import RECENT, Verdict
from weightspace.report.plot import BLUE, GREEN, GREY, INK, ORANGE, STYLE

SHOWN = 30
"""The last runs that are drawn."""
COLUMNS = 4
PANEL_INCHES = (3.5, 2.15)
HEAD_INCHES = 0.9
COLORS = {"worse": ORANGE, "better": GREEN, "not judged": GREY}
"""Of the latest run's mark; blue else."""
ARROWS = {"higher": "higher is better", "lower": "lower is better"}


def draw_trend(runs: pd.DataFrame, run: Run, verdicts: Sequence[Verdict]) -> bytes:
    """Draw the figures of a run, and of the comparable runs before it, as PNG: judged ones first.

    Args:
        runs: rows of the history, oldest first, the run's own among them.
    """
    ordered = sorted(verdicts, key=lambda verdict: verdict.word == "not judged")
    rows = -(-len(ordered) // COLUMNS)
    names = list(dict.fromkeys(runs["run"]))[-SHOWN:]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        size = (COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1] + HEAD_INCHES)
        drawing = Drawing(figsize=size, layout="constrained")
        panels = drawing.subplots(rows, COLUMNS, squeeze=False).flatten()
        for axes, verdict in zip(panels, ordered, strict=False):
            draw_panel(axes, runs, names, verdict)
        for axes in panels[len(ordered) :]:
            axes.set_axis_off()
        add_heading(drawing, run, len(names))
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_panel(axes: Axes, runs: pd.DataFrame, names: Sequence[str], verdict: Verdict) -> None:
    """Draw one figure: a line over runs, intervals if there are any, where it might be, and the latest run marked."""
    rows = runs[runs["figure"] == verdict.figure].set_index("run").reindex(names)
    x, values = np.arange(len(names)), rows["value"].to_numpy()
    draw_reference(axes, verdict, len(names))
    if FIGURES[verdict.figure].kind == "science":
        axes.vlines(x, rows["low"], rows["high"], color=BLUE, alpha=0.5, linewidth=1.2)
    color = GREY if verdict.word == "not judged" else BLUE
    axes.plot(x, values, "-o", color=color, markersize=3, linewidth=1)
    axes.plot(x[-1:], values[-1:], "o", color=COLORS.get(verdict.word, BLUE), markersize=7)
    figure = FIGURES[verdict.figure]
    axes.set_title(verdict.figure, loc="left", fontsize=6.8, fontweight="bold", color=INK, pad=15)
    text = textwrap.shorten(figure.meaning, 62, placeholder="...")
    axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=6.5, color=INK, va="bottom")
    axes.set_xlabel(f"{ARROWS[figure.better]}; {verdict.word}", fontsize=7, color=COLORS.get(verdict.word, INK))
    axes.set_xlim(-0.6, max(len(names) - 0.4, 1.6))
    label_times(axes, runs, names)


def draw_reference(axes: Axes, verdict: Verdict, num_runs: int) -> None:
    """Draw what the latest run is held against: the median of the runs before, and how far it may be worse."""
    if verdict.reference is None or verdict.word == "not judged":
        return
    middle, start = verdict.reference.value, num_runs - 1 - verdict.num_runs
    if verdict.tolerance is None:
        low, high = verdict.reference.low, verdict.reference.high
    else:
        room = verdict.tolerance * abs(middle)
        low, high = middle - room, middle + room
    if low is not None and high is not None:
        axes.fill_between([start, num_runs - 0.6], low, high, color=GREY, alpha=0.18, linewidth=0)
    axes.hlines(middle, start, num_runs - 0.6, color=GREY, linewidth=1, linestyle="--")


def label_times(axes: Axes, runs: pd.DataFrame, names: Sequence[str]) -> None:
    """Write the days of the first and the last run below the axis."""
    times = runs.drop_duplicates("run").set_index("run")["time"]
    places = sorted({0, len(names) - 1})
    axes.set_xticks(places, [f"{times[names[place]]:%m-%d %H:%M}" for place in places])


def add_heading(drawing: Drawing, run: Run, num_runs: int) -> None:
    """Say above all panels what is shown and what the marks mean."""
    title = f"Suite {run.suite}: the last {num_runs} runs up to {run.time:%Y-%m-%d %H:%M} UTC on {run.machine}"
    marks = [
        Line2D([], [], marker="o", color=BLUE, markersize=7, linestyle="", label="latest run, as good as before"),
        Line2D([], [], marker="o", color=ORANGE, markersize=7, linestyle="", label="worse"),
        Line2D([], [], marker="o", color=GREEN, markersize=7, linestyle="", label="better"),
        Line2D([], [], marker="o", color=GREY, markersize=7, linestyle="", label="seconds and rates, never judged"),
        Line2D([], [], color=GREY, linestyle="--", label=f"median of up to {RECENT} runs before"),
        Patch(color=GREY, alpha=0.18, label="tolerance around it, or its 95 % interval"),
    ]
    drawing.legend(
        handles=marks,
        loc="outside upper left",
        ncols=len(marks),
        fontsize=8,
        columnspacing=1.4,
        title=title,
        title_fontsize=11,
        alignment="left",
    )
