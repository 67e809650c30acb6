"""The science of the quickstart study: figures of its last report, with their 95% intervals."""

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES
from benchmarks.pipeline import CHECKOUT
from weightspace.config import BadInput

NAME = "quickstart"
BOUNDS = ("", "_low", "_high")


def measure(metrics: Path = CHECKOUT / "data/report/quickstart/metrics.json") -> dict[str, float]:
    """Read every figure, and print a table of them."""
    try:
        tree = json.loads(metrics.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{metrics}: cannot be read ({error}), wanted what the stage `report` writes") from error
    names = [name.partition(".")[2] for name in FIGURES if name.startswith(f"{NAME}.")]
    figures = {name + end: find_figure(tree, name + end, metrics) for name in names for end in BOUNDS}
    for name in names:
        print(f"{name:48} {figures[name]:8.4f} [{figures[name + '_low']:.4f}, {figures[name + '_high']:.4f}]")
    return figures


def find_figure(tree: dict[str, Any], name: str, metrics: Path) -> float:
    """Find a figure by its dotted name.

    Raises:
        BadInput: there is none.
    """
    found: Any = tree
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, int | float):
        raise BadInput(f"{metrics}: {name} is {found!r}, wanted a number")
    return float(found)
