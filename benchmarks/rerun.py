"""The scheduled rerun: run a suite of benchmarks, keep its figures, and say what got worse.

Each benchmark runs in a process of its own. The figures go into a history, and each is compared with the last runs of
the same suite on the same class of machine, by what `benchmarks/figures.py` declares. The command ends with status 3 if
something got worse, and with 1 if a benchmark failed or gave other figures than it should; the others are kept.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import FIGURES, find_expected
from benchmarks.history import Measured, Run, describe_machine, make_run, read_history, select_comparable, write_run
from benchmarks.pipeline import CHECKOUT
from benchmarks.shown import show_run
from benchmarks.verdicts import Verdict, judge_figures
from flows.orchestration.processes import child_environment, die_with_parent
from weightspace.config import BadInput

SUITES: dict[str, dict[str, tuple[str, ...]]] = {
    "quick": {
        "quickstart": (),
        "zoo": ("--cases", "cnn_s_b10", "--rounds", "3", "--reports", ""),
        "weights": ("--encoded", "0"),
        "hyperrep": (),
        "probes": (),
    },
    "full": {"quickstart": (), "zoo": ("--reports", ""), "weights": (), "hyperrep": (), "probes": (), "pipeline": ()},
}
"""The benchmarks of each suite, with what each is told. What they measure goes into the history, not into reports."""


TABLE = "benchmarks/figures.py"
BOUNDS = ("", "_low", "_high")


class Failed(Exception):
    """A benchmark ended without figures."""


@dataclass
class Outcome:
    """What the benchmarks of a suite gave."""

    figures: dict[str, Measured] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by benchmark."""


def measure(suite: str = "quick", history: Path = CHECKOUT / "data/benchmark", only: str = "") -> dict[str, Any]:
    """Run a suite, add it to the history, judge it and show it.

    Args:
        suite: quick or full.
        history: folder of the runs, and of what is shown of them.
        only: names of benchmarks of the suite, with commas between; empty for all.

    Returns:
        `figures` by name, a list of `verdicts`, the names of figures that are `worse`, and why benchmarks `failed`.

    Raises:
        BadInput: no such suite or benchmark, or the history cannot be read.
    """
    chosen = choose_benchmarks(suite, only)
    machine = describe_machine()
    past = select_comparable(read_history(history), machine, suite)
    outcome = run_suite(suite, chosen)
    run = make_run(suite, CHECKOUT, machine, outcome.figures)
    verdicts = judge_figures(run.figures, past)
    if run.figures:
        write_run(history, run)
        print(show_run(history, run, verdicts, outcome.failed))
    complain(verdicts, outcome.failed)
    return report(run, verdicts, outcome.failed)


def choose_benchmarks(suite: str, only: str) -> dict[str, tuple[str, ...]]:
    """Find the benchmarks of a suite, or some of them.

    Raises:
        BadInput: there is no such suite, or it has no such benchmark.
    """
    if suite not in SUITES:
        raise BadInput(f"--suite: got {suite!r}, wanted one of {', '.join(SUITES)}")
    known, names = SUITES[suite], [name for name in only.split(",") if name]
    for name in names:
        if name not in known:
            raise BadInput(f"--only: got {name!r}, wanted some of {', '.join(known)}")
    return {name: words for name, words in known.items() if not names or name in names}


def run_suite(suite: str, chosen: Mapping[str, Sequence[str]]) -> Outcome:
    """Run benchmarks one after the other; one that fails does not keep the others from running."""
    outcome = Outcome()
    for number, (name, words) in enumerate(chosen.items(), start=1):
        print(f"\n{name} ({number} of {len(chosen)})", flush=True)
        started = time.monotonic()
        try:
            found = run_benchmark(name, words)
        except Failed as error:
            outcome.failed[name] = str(error)
            continue
        seconds = time.monotonic() - started
        expected = find_expected(name, suite == "quick", torch.cuda.is_available())
        outcome.figures |= read_figures(found, expected, seconds)
        faults = list_faults(found, expected)
        if faults:
            outcome.failed[name] = "; ".join(faults)
        print(f"{name} took {seconds:.0f} s", flush=True)
    return outcome


def run_benchmark(name: str, words: Sequence[str]) -> dict[str, float]:
    """Run one benchmark in a process of its own, which ends when this one does.

    Returns:
        Its figures, by their full names.

    Raises:
        Failed: it ended with a status other than 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", name, *words, "--json", str(path)]
        process = subprocess.run(
            command, cwd=CHECKOUT, env=child_environment(), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        if process.returncode != 0:
            raise Failed(f"it ended with status {process.returncode}")
        return {f"{name}.{key}": value for key, value in json.loads(path.read_text(encoding="utf-8")).items()}


def list_numbers(expected: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """List the numbers that each figure is made of: itself, and its bounds if it has an interval."""
    ends = {name: BOUNDS if FIGURES[name].kind == "science" else ("",) for name in expected}
    return {name: tuple(name + end for end in ends[name]) for name in expected}


def read_figures(found: Mapping[str, float], expected: Sequence[str], seconds: float) -> dict[str, Measured]:
    """Take the figures that are whole from what a benchmark gave; bounds stand beside them as `_low` and `_high`."""
    whole = {
        name: [found[part] for part in parts]
        for name, parts in list_numbers(expected).items()
        if all(math.isfinite(found.get(part, math.nan)) for part in parts)
    }
    return {name: Measured(*numbers, seconds=seconds) for name, numbers in whole.items()}


def list_faults(found: Mapping[str, float], expected: Sequence[str]) -> list[str]:
    """Say what a benchmark should have given and did not, what nobody has declared, and what is not finite."""
    wanted = {part for parts in list_numbers(expected).values() for part in parts}
    faults = [f"it gave no {name}, which {TABLE} declares" for name in sorted(wanted - set(found))]
    faults += [f"it gave {name}, which {TABLE} does not declare" for name in sorted(set(found) - wanted)]
    return faults + [f"it gave {name} = {value}" for name, value in found.items() if not math.isfinite(value)]


def complain(verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> None:
    """Print a line on each figure that got worse, and on each benchmark that failed."""
    for verdict in verdicts:
        if verdict.word == "worse":
            print(f"worse: {explain(verdict)}", file=sys.stderr)
    for name, why in failed.items():
        print(f"error: benchmark {name}: {why}", file=sys.stderr)


def explain(verdict: Verdict) -> str:
    """Say how a figure stands to its reference, in a line."""
    measured, reference = verdict.measured, verdict.reference
    assert reference is not None
    told = f"{verdict.figure} {measured.value:.4g}"
    if verdict.tolerance is None:
        told += f" [{measured.low:.4g}, {measured.high:.4g}], was {reference.value:.4g}"
        return f"{told} [{reference.low:.4g}, {reference.high:.4g}]; {FIGURES[verdict.figure].better} is better"
    told += f", was {reference.value:.4g} (median of {verdict.num_runs}), tolerance {verdict.tolerance:.0%}"
    return f"{told}; {FIGURES[verdict.figure].better} is better"


def report(run: Run, verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> dict[str, Any]:
    """Lay out what a scheduler reads."""
    return {
        "figures": {name: measured.value for name, measured in run.figures.items()},
        "verdicts": [
            {
                "figure": verdict.figure,
                "value": verdict.measured.value,
                "reference": verdict.reference.value if verdict.reference else None,
                "tolerance": verdict.tolerance,
                "verdict": verdict.word,
            }
            for verdict in verdicts
        ],
        "worse": [verdict.figure for verdict in verdicts if verdict.word == "worse"],
        "failed": dict(failed),
    }
