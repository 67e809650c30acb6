"""Compare many hyper-representations by what reconstruction keeps: curves over a number, and one factor at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightspace.report.blocks import (
    Cell,
    Interval,
    Paragraph,
    Part,
    Plot,
    Section,
    Table,
    format_error,
    format_percent,
    join_words,
    make_cell,
    make_error_cell,
    make_percent_cell,
)
from weightspace.report.config import ChangesSweep, CurveSweep, Seeds, Sweep
from weightspace.report.hyperrep import SIDES
from weightspace.report.plot import GREY, INK, SERIES, add_legend, draw_plot
from weightspace.report.read import Study, numbers, pick, words
from weightspace.report.statistics import estimate_over_runs

FIGURES = ("error", "kept_share", "agreement")
MODEL = "hyperrep"
AXES = {
    "error": ("reconstruction error (1 = the mean weight)", 1),
    "kept_share": ("accuracy kept, % of the original's", 100),
}
"""Figures that are drawn: label and factor."""
BASELINES = {"untrained": ("before training", INK, ":"), "pca": ("PCA of the same size", GREY, "-.")}
ENOUGH = 0.8
"""Share of the accuracy that reconstructions of unseen members are to keep."""
PLOT_SIZE = (4.6, 4.3)
NOTE = (
    "Means over seeds with 95% intervals by Student's t; a seed draws the members anew and trains anew. Error: squared "
    "error of the weights over their squared distance from the mean of seen members. Accuracy kept: test accuracy of "
    "reconstructed networks as a share of the originals'. Same answers: share of test images to which a network and "
    "its reconstruction give the same class. All at the last epoch, as they are decoded, without any training."
)


@dataclass(frozen=True)
class Runs:
    """Figures of embeddings that differ in their seed only, one number a seed."""

    figures: dict[tuple[str, str, str], Float[np.ndarray, " seeds"]]
    """By method, split and figure."""

    @property
    def methods(self) -> list[str]:
        """List the methods that every seed has."""
        return list(dict.fromkeys(method for method, _, _ in self.figures))

    def estimate(self, figure: str, split: str = "test", method: str = MODEL) -> Interval:
        """Take a figure's mean over seeds."""
        return estimate_over_runs(self.figures[method, split, figure])

    def compare(self, base: "Runs", figure: str, method: str = MODEL) -> Interval:
        """Take the mean over seeds by how much a figure of unseen members exceeds that of the base with that seed."""
        key = "test", figure
        return estimate_over_runs(self.figures[method, *key] - base.figures[MODEL, *key])


def gather_runs(study: Study, seeds: Seeds) -> Runs:
    """Measure some embeddings; a method that one lacks is left out."""
    tables = [study.swept[name].table("kept") for name in seeds]
    shared = [method for method in words(tables[0], "method") if all(method in words(t, "method") for t in tables)]
    found = {}
    for method in shared:
        for split in SIDES:
            runs = [measure_run(pick(table, method=method, split=split)) for table in tables]
            for figure in FIGURES:
                found[method, split, figure] = np.array([run[figure] for run in runs])
    return Runs(found)


def measure_run(rows: pd.DataFrame) -> dict[str, float]:
    """Average the networks of one method and side; not-a-number where there are none."""
    if not len(rows):
        return dict.fromkeys(FIGURES, float("nan"))
    before, after = (numbers(rows, name).mean() for name in ("test_accuracy", "test_accuracy_reconstructed"))
    means = {name: float(numbers(rows, name).mean()) for name in ("error", "agreement")}
    return means | {"kept_share": float(after / before)}


def gather_curve(study: Study, sweep: CurveSweep) -> dict[str, list[Runs]]:
    """Measure each arm at each value."""
    return {name: [gather_runs(study, seeds) for seeds in arm.embeddings] for name, arm in sweep.arms.items()}


def gather_changes(study: Study, sweep: ChangesSweep) -> tuple[Runs, dict[str, Runs]]:
    """Measure the base and each cell."""
    return gather_runs(study, sweep.base), {
        name: gather_runs(study, change.embeddings) for name, change in sweep.changes.items()
    }


def show_sweeps(study: Study) -> list[Section]:
    """Show each sweep in a section of its own."""
    return [
        Section(f"sweep_{name}", sweep.title, [show_sweep(study, name, sweep)]) for name, sweep in study.sweeps.items()
    ]


def show_sweep(study: Study, name: str, sweep: Sweep) -> Part:
    """Show one sweep."""
    if isinstance(sweep, CurveSweep):
        return show_curve(name, sweep, gather_curve(study, sweep))
    return Part("", [sweep.text], tables=[tabulate_changes(sweep, *gather_changes(study, sweep))])


def show_curve(name: str, sweep: CurveSweep, curve: dict[str, list[Runs]]) -> Part:
    """Show what reconstruction loses and keeps over the values of a sweep, as drawings and as a table."""
    plots = [draw_curve(name, sweep, curve, figure) for figure in AXES]
    text = (
        "Lines without marks are baselines on unseen members, with the same training members as the first arm: the "
        "model before its first step, and principal components with as many numbers a network."
    )
    said = [sweep.text, text] if list_baselines(curve) else [sweep.text]
    return Part("", said, plots, tables=[tabulate_curve(sweep, curve)])


def list_baselines(curve: dict[str, list[Runs]]) -> list[str]:
    """List the baselines that were measured at every value of the first arm."""
    runs = next(iter(curve.values()))
    return [method for method in BASELINES if all(method in run.methods for run in runs)]


def draw_curve(name: str, sweep: CurveSweep, curve: dict[str, list[Runs]], figure: str) -> Plot:
    """Draw one figure of all arms, seen members dashed and unseen ones solid, over the first arm's baselines."""
    label, factor = AXES[figure]

    def paint(panel: Figure, axes: Axes) -> None:
        for method in list_baselines(curve):
            text, color, style = BASELINES[method]
            runs = next(iter(curve.values()))
            means = [factor * run.estimate(figure, method=method).value for run in runs]
            axes.plot(sweep.values, means, style, color=color, linewidth=1.1, label=text)
        for (arm, runs), color in zip(curve.items(), SERIES, strict=False):
            seen = [scale(run.estimate(figure, "train"), factor) for run in runs]
            unseen = [scale(run.estimate(figure), factor) for run in runs]
            draw_arm(axes, sweep.values, seen, unseen, color, sweep.arms[arm].label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sweep.values, [f"{value:,}" for value in sweep.values])
        axes.minorticks_off()
        axes.set(xlabel=sweep.axis, ylabel=label, ylim=(0, None))
        add_legend(panel)

    ends = [f"{sweep.arms[arm].label} {factor * runs[-1].estimate(figure).value:.3g}" for arm, runs in curve.items()]
    caption = f"{label.capitalize()}: unseen members solid, with 95% intervals over seeds; seen members dashed."
    alt = f"{label.capitalize()} over {sweep.axis}; unseen members, at {sweep.values[-1]:,}: {', '.join(ends)}."
    return draw_plot(f"sweep_{name}_{figure}", paint, caption, alt, PLOT_SIZE)


def scale(figure: Interval, factor: int) -> Interval:
    """Multiply a figure and its bounds."""
    return Interval(factor * figure.value, factor * figure.low, factor * figure.high)


def draw_arm(
    axes: Axes, values: Sequence[int], seen: list[Interval], unseen: list[Interval], color: str, label: str
) -> None:
    """Draw one arm, the intervals of unseen members as bars."""
    axes.plot(values, [e.value for e in seen], "--", color=color, linewidth=1.1)
    axes.vlines(values, [e.low for e in unseen], [e.high for e in unseen], color=color, linewidth=1)
    axes.plot(values, [e.value for e in unseen], "o-", color=color, markersize=3.5, label=label)


def tabulate_curve(sweep: CurveSweep, curve: dict[str, list[Runs]]) -> Table:
    """Tabulate each arm at each value, baselines beside it."""
    baselines = list_baselines(curve)
    rows = []
    for arm, runs in curve.items():
        for value, run in zip(sweep.values, runs, strict=True):
            cells = [Cell(f"{sweep.arms[arm].label}: {value:,}")]
            cells += [make_error_cell(run.estimate("error", side)) for side in SIDES]
            cells += [make_percent_cell(run.estimate("kept_share", side)) for side in SIDES]
            cells += [make_percent_cell(run.estimate("agreement"))]
            cells += [make_percent_cell(run.estimate("kept_share", method=method)) for method in baselines]
            rows.append(cells)
    columns = [f"arm: {sweep.axis}", "error, seen", "error, unseen", "accuracy kept, seen, %"]
    columns += ["accuracy kept, unseen, %", "same answers, unseen, %"]
    columns += [f"{BASELINES[method][0]}, unseen, %" for method in baselines]
    return Table(f"What reconstruction keeps, over {sweep.axis}.", columns, rows, NOTE)


def tabulate_changes(sweep: ChangesSweep, base: Runs, changes: dict[str, Runs]) -> Table:
    """Tabulate the base, each change with its difference from it, and what needs no learning."""
    rows = [[Cell("base"), *list_figures(base), Cell(""), Cell("")]]
    for name, runs in changes.items():
        said = sweep.changes[name]
        differences = (runs.compare(base, figure) for figure in ("error", "kept_share"))
        rows.append([Cell(f"{said.factor}: {said.value}"), *list_figures(runs), *list_differences(*differences)])
    for method in (method for method in BASELINES if method in base.methods):
        differences = (base.compare(base, figure, method) for figure in ("error", "kept_share"))
        heading = Cell(f"base's members: {BASELINES[method][0]}")
        rows.append([heading, *list_figures(base, method), *list_differences(*differences)])
    columns = ["change", "error, seen", "error, unseen", "accuracy kept, seen, %", "accuracy kept, unseen, %"]
    columns += ["error, less base's", "accuracy kept, less base's, points"]
    note = f"{NOTE} Differences are seed by seed, on unseen members; bold where their interval leaves out 0."
    return Table("One factor changed at a time.", columns, rows, note)


def list_figures(runs: Runs, method: str = MODEL) -> Iterator[Cell]:
    """List the cells of a row that stand on their own."""
    for side in SIDES:
        yield make_error_cell(runs.estimate("error", side, method))
    for side in SIDES:
        yield make_percent_cell(runs.estimate("kept_share", side, method))


def list_differences(error: Interval, kept: Interval) -> Iterator[Cell]:
    """List the cells of a row that compare it with the base."""
    yield make_cell(error, is_clear(error))
    yield make_percent_cell(kept, is_clear(kept))


def is_clear(difference: Interval) -> bool:
    """Tell whether a difference is not 0, as far as its interval says."""
    return difference.low > 0 or difference.high < 0


def summarize_sweeps(study: Study) -> list[Paragraph]:
    """Say in plain words what each sweep found."""
    return [
        Paragraph(
            sweep.title,
            write_curve(sweep, gather_curve(study, sweep))
            if isinstance(sweep, CurveSweep)
            else write_changes(sweep, *gather_changes(study, sweep)),
        )
        for sweep in study.sweeps.values()
    ]


def write_curve(sweep: CurveSweep, curve: dict[str, list[Runs]]) -> str:
    """Say what unseen members keep at both ends, and from where on it is enough."""
    sentences = []
    for arm, runs in curve.items():
        ends = [format_percent(run.estimate("kept_share").value) for run in (runs[0], runs[-1])]
        errors = [format_error(run.estimate("error").value, 2) for run in (runs[0], runs[-1])]
        means = [run.estimate("kept_share").value for run in runs]
        reached = [value for value, mean in zip(sweep.values, means, strict=True) if mean >= ENOUGH]
        verdict = f"{format_percent(ENOUGH, 0)}% from {reached[0]:,} on" if reached else "nowhere 80%"
        sentences.append(
            f"{sweep.arms[arm].label.capitalize()}: from {sweep.values[0]:,} to {sweep.values[-1]:,} {sweep.axis} the "
            f"error on unseen members goes from {errors[0]} to {errors[1]}, and what reconstructions keep of their "
            f"accuracy from {ends[0]}% to {ends[1]}% ({verdict})."
        )
    for method in list_baselines(curve):
        run = next(iter(curve.values()))[-1]
        kept = format_percent(run.estimate("kept_share", method=method).value)
        sentences.append(f"For comparison, {BASELINES[method][0]}: {kept}% at {sweep.values[-1]:,}.")
    return " ".join(sentences)


def write_changes(sweep: ChangesSweep, base: Runs, changes: dict[str, Runs]) -> str:
    """Say which changes help, which harm and which cannot be told from none."""
    kept = base.estimate("kept_share")
    sentences = [f"Reconstructions of unseen members keep {format_percent(kept.value)}% of their accuracy (base)."]
    groups: dict[str, list[str]] = {"Better than that": [], "Worse": [], "Not to be told from it": []}
    for name, runs in changes.items():
        lead, said = runs.compare(base, "kept_share"), sweep.changes[name]
        verdict = "Better than that" if lead.low > 0 else "Worse" if lead.high < 0 else "Not to be told from it"
        points = f"{'+' if lead.value > 0 else ''}{format_percent(lead.value)}"
        groups[verdict].append(f"{said.factor} {said.value} ({points} points)")
    sentences += [f"{verdict}: {join_words(names)}." for verdict, names in groups.items() if names]
    return " ".join(sentences)
