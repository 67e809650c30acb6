"""Show what can be told from weights: each target, each feature set, each probe, seen and unseen members."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weightspace.report.blocks import Cell, Part, Plot, Section, Table, format_figure, make_cell
from weightspace.report.contests import (
    MAIN_TARGET,
    Contest,
    Score,
    find_figure,
    find_measure,
    find_predictions,
    hold_contest,
    hold_contests,
    list_targets,
)
from weightspace.report.labels import name_features, name_probe, name_target, order_features
from weightspace.report.plot import BLUE, GREY, ORANGE, add_legend, draw_plot
from weightspace.report.read import Entry, Study, numbers, pick, words

SCORE = {"r2": "R\N{SUPERSCRIPT TWO}", "accuracy": "accuracy"}
TAU = "\N{GREEK SMALL LETTER TAU}"
PROBES = ("ridge", "logistic", "boosted")
VERDICTS = {
    "embedding": "embedding ahead",
    "baseline": "baseline ahead",
    "open": "too close to call",
    "neither": "none beats the mean",
}


def show_all_probes(study: Study) -> Section:
    """Show every set of probes of a study."""
    entries = study.of("probes")
    parts = [part for entry in entries for part in show_probes(entry, len(entries) > 1)]
    return Section("probes", "What weights tell", parts)


def show_probes(entry: Entry, named: bool) -> list[Part]:
    """Show one set of probes."""
    scores, contests = entry.table("scores"), hold_contests(entry)
    text = (
        "A probe predicts a property or factor of a checkpoint from features of its weights. It is fitted on seen "
        "members and scored on members that neither it nor the hyper-representation ever saw. Baselines get the same "
        "probes."
    )
    overview = Part(entry.name if named else "", [text], tables=[tabulate_contests(contests)] if contests else [])
    plots = [draw_overview(entry, contests)] if contests else []
    tables = [tabulate_target(scores, target) for target in list_targets(scores)]
    every = Part("Every target, every feature set", [describe_scores()], tables=tables)
    return [overview, Part(plots=[*plots, *draw_scatters(entry)], small=True), every]


def describe_scores() -> str:
    """Say what the tables of scores hold."""
    return (
        f"{SCORE['r2']}: 1 is perfect, 0 no better than the mean of these checkpoints, below 0 worse. {TAU}: Kendall's "
        "rank correlation. Accuracy: the share of checkpoints whose class is right. Below each figure is its 95% "
        "bootstrap interval over members. Bold: the best on unseen members. Learning rate and weight decay are "
        "predicted as logarithms."
    )


def tabulate_contests(contests: list[Contest]) -> Table:
    """Tabulate who wins where."""
    rows = [
        [
            Cell(name_contest(contest)),
            Cell(VERDICTS[contest.verdict]),
            Cell(format_figure(contest.learned.figure.value), contest.learned.words, contest.verdict == "embedding"),
            Cell(format_figure(contest.baseline.figure.value), contest.baseline.words, contest.verdict == "baseline"),
            make_cell(contest.lead),
        ]
        for contest in contests
    ]
    note = (
        "Unseen members. Each side is the best of its feature sets and probes in hindsight, which helps the side with "
        "more of them, the baselines. The interval of the lead is over members, the same for both sides; too close to "
        "call: it holds zero, or there is none. For classes it is the widest that the two intervals allow."
    )
    columns = ["target", "verdict", "best embedding", "best baseline", "lead of the embedding"]
    return Table("Who wins where: the best embedding against the best baseline.", columns, rows, note)


def name_contest(contest: Contest) -> str:
    """Name what a contest is about and how it is scored."""
    return f"{name_target(contest.target)}, {SCORE[contest.measure]}"


def tabulate_target(scores: pd.DataFrame, target: str) -> Table:
    """Tabulate all feature sets and probes of one target, seen and unseen members."""
    rows, measure = pick(scores, target=target), find_measure(scores, target)
    there = words(rows, "probe")
    probes = [probe for probe in PROBES if probe in there]
    keys = [(measure, probe, split) for probe in probes for split in ("train", "test")]
    columns = [f"{name_probe(probe)}, {side}" for probe in probes for side in ("seen", "unseen")]
    if measure == "r2":
        keys += [("kendall_tau", probe, "test") for probe in probes]
        columns += [f"{TAU} {name_probe(probe)}, unseen" for probe in probes]
    lines = {name: [find_figure(rows, name, *key) for key in keys] for name in order_features(words(rows, "features"))}
    best = [find_highest([line[n].value for line in lines.values()], key[2]) for n, key in enumerate(keys)]
    cells = [
        [Cell(name_features(name)), *(make_cell(f, f.value == top) for f, top in zip(line, best, strict=True))]
        for name, line in lines.items()
    ]
    return Table(f"{name_target(target).capitalize()}: {SCORE[measure]}.", ["features", *columns], cells)


def find_highest(values: Sequence[float], split: str) -> float | None:
    """Return the highest figure on unseen members if above 0, None on others: it is no merit to know what was seen."""
    useful = [value for value in values if value > 0]
    return max(useful, default=None) if split == "test" else None


def draw_overview(entry: Entry, contests: list[Contest]) -> Plot:
    """Draw the best embedding and the best baseline of every target."""

    def paint(figure: Figure, axes: Axes) -> None:
        draw_side(axes, [contest.learned for contest in contests], -0.13, "best embedding", BLUE, "D")
        draw_side(axes, [contest.baseline for contest in contests], 0.13, "best baseline", ORANGE, "o")
        axes.set_yticks(range(len(contests)), [name_contest(contest) for contest in contests])
        axes.set(xlabel="score on unseen members", ylim=(len(contests) - 0.5, -0.5), xlim=(-0.05, 1.02))
        axes.axvline(0, color=GREY, linewidth=0.8)
        add_legend(figure)

    pairs = (
        f"{name_target(c.target)} {format_figure(c.learned.figure.value, 2)} against "
        f"{format_figure(c.baseline.figure.value, 2)}"
        for c in contests
    )
    caption = (
        "Best embedding and best baseline on unseen members, with 95% intervals; scores below 0 stand at the edge."
    )
    alt = f"Best embedding against best baseline: {'; '.join(pairs)}."
    return draw_plot(f"probes_{entry.name}_overview", paint, caption, alt, (3.5, 1.2 + 0.26 * len(contests)))


def draw_side(axes: Axes, scores: list[Score], shift: float, label: str, color: str, marker: str) -> None:
    """Draw one side of all contests; a score below the axis stands at its edge."""
    heights = np.arange(len(scores)) + shift
    axes.hlines(heights, [s.figure.low for s in scores], [s.figure.high for s in scores], color=color, linewidth=1)
    values = [max(score.figure.value, -0.04) for score in scores]
    axes.plot(values, heights, marker, color=color, markersize=5, label=label)


def draw_scatters(entry: Entry) -> list[Plot]:
    """Draw predicted against true test accuracy of unseen members: best embedding, best baseline."""
    contest = hold_contest(entry, MAIN_TARGET)
    if contest is None:
        return []
    sides = (("embedding", contest.learned, BLUE), ("baseline", contest.baseline, ORANGE))
    return [draw_scatter(entry, *side) for side in sides if len(find_predictions(entry, MAIN_TARGET, side[1]))]


def draw_scatter(entry: Entry, side: str, score: Score, color: str) -> Plot:
    """Draw predicted against true test accuracy for one probe; points become an image."""
    rows = find_predictions(entry, MAIN_TARGET, score)
    truth, prediction = (100 * numbers(rows, name) for name in ("truth", "prediction"))

    def paint(_: Figure, axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8)
        axes.scatter(truth, np.clip(prediction, -5, 105), s=5, color=color, alpha=0.35, linewidths=0, rasterized=True)
        axes.set(xlabel="true test accuracy, %", ylabel="predicted, %", xlim=(0, 100), ylim=(-5, 105))
        axes.set_title(f"best {side}: {SCORE['r2']} {format_figure(score.figure.value)}", loc="left")

    caption = f"Predicted against true test accuracy, unseen members: {score.words}."
    alt = (
        f"Scatter of {len(rows):,} checkpoints of {rows['member'].nunique()} unseen members around the diagonal; "
        f"R2 {format_figure(score.figure.value)}."
    )
    return draw_plot(f"probes_{entry.name}_scatter_{side}", paint, caption, alt, (3.5, 3.2))
