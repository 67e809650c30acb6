"""Show a run beside the runs before it: a table to read, a drawing, and files that DVC compares between commits."""

import io
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.figures import FIGURES
from benchmarks.history import Measured, Run, read_history, select_comparable, write_whole
from benchmarks.trend import draw_trend
from benchmarks.verdicts import Verdict

METRICS, TREND, GRAPH, LOCK = "metrics.json", "trend.csv", "dvc.yaml", "dvc.lock"
ORDER = ("worse", "better", "no reference", "level", "not judged")
"""Verdicts in the order of the table."""


def show_run(history: Path, run: Run, verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> str:
    """Write all that shows a run, which the history has already; returns the table."""
    runs = select_comparable(read_history(history), run.machine, run.suite)
    table = write_table(run, verdicts, failed)
    write_whole(history / "latest.md", table.encode())
    write_whole(history / "trend.png", draw_trend(runs, run, verdicts))
    write_whole(history / METRICS, (json.dumps(list_metrics(run), indent=1) + "\n").encode())
    write_whole(history / TREND, write_trend(runs).encode())
    if not is_ignored(history, LOCK):
        write_whole(history / GRAPH, write_graph(runs).encode())
    return table


def is_ignored(folder: Path, name: str) -> bool:
    """Say whether git ignores a file in a folder: DVC fails beside a graph whose lock file is ignored."""
    home = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    command = ["git", "-C", str(home), "check-ignore", "-q", str(folder.absolute() / name)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def write_table(run: Run, verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> str:
    """Write a run as a page of Markdown, what got worse first."""
    code = "no git checkout" if run.commit is None else f"commit {run.commit[:12]}{', changed' * bool(run.dirty)}"
    lines = [
        f"# Benchmarks, suite {run.suite}",
        "",
        f"{run.time:%Y-%m-%d %H:%M} UTC, {run.machine}, {code}.",
        "",
        "Ratios and bytes are judged against the median of the last runs of the same suite on such a machine. Science",
        "is worse when its 95 % interval lies wholly beyond theirs. Seconds and rates are never judged.",
        "",
        *(f"**Failed: {name}**: {why}\n" for name, why in failed.items()),
        "| figure | verdict | value | reference | change | tolerance | better | what it is |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    ordered = sorted(verdicts, key=lambda verdict: ORDER.index(verdict.word))
    return "\n".join([*lines, *map(write_row, ordered)]) + "\n"


def write_row(verdict: Verdict) -> str:
    """Write a figure as a row of the table."""
    figure, word = FIGURES[verdict.figure], verdict.word
    change = "" if verdict.change is None else f"{verdict.change:+.1%}"
    tolerance = "" if verdict.tolerance is None else f"{verdict.tolerance:.0%}"
    cells = (
        f"`{verdict.figure}`",
        f"**{word}**" if word == "worse" else word,
        write_measured(verdict.measured),
        write_measured(verdict.reference),
        change,
        tolerance,
        figure.better,
        figure.meaning,
    )
    return f"| {' | '.join(cells)} |"


def write_measured(measured: Measured | None) -> str:
    """Write a value, with its interval if it has one."""
    if measured is None:
        return ""
    if measured.low is None:
        return f"{measured.value:,.4g}" if abs(measured.value) < 10_000 else f"{measured.value:,.0f}"
    return f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]"


def list_metrics(run: Run) -> dict[str, float]:
    """List the figures of a run for `dvc metrics diff`, bounds beside them."""
    metrics: dict[str, float] = {}
    for name, measured in run.figures.items():
        numbers = {"": measured.value, "_low": measured.low, "_high": measured.high}
        metrics |= {name + end: number for end, number in numbers.items() if number is not None}
    return metrics


def write_trend(runs: pd.DataFrame) -> str:
    """Write judged figures for `dvc plots diff`, a line a run and a column a figure, empty where a run has it not."""
    table = runs.pivot(index="run", columns="figure", values="value").reindex(columns=list_judged(runs))
    table.insert(0, "time", runs.drop_duplicates("run").set_index("run")["time"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def list_judged(runs: pd.DataFrame) -> list[str]:
    """List the judged figures that any run has, in the order of their table."""
    known = set(runs["figure"])
    return [name for name, figure in FIGURES.items() if figure.judged and name in known]


def write_graph(runs: pd.DataFrame) -> str:
    """Tell DVC of the metrics and plots beside it; a checkout without a history has none, and misses nothing."""
    plots: list[dict[str, Any]] = []
    for name in list_judged(runs):
        figure = FIGURES[name]
        title = f"{figure.meaning} ({figure.better} is better)"
        plots.append({name: {"x": "time", "y": {TREND: name}, "title": title, "y_label": name}})
    # Which is YAML, too.
    graph = json.dumps({"metrics": [METRICS], "plots": plots}, indent=1)
    return f"# Written by `python -m benchmarks rerun`: what DVC compares between commits.\n{graph}\n"
