"""Dated reports: what a benchmark measured, with spread, in a file of its day that a page can be held to."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.history import describe_code, describe_machine, write_whole
from benchmarks.pipeline import CHECKOUT
from weightspace.config import BadInput

REPORTS = "benchmarks/reports"
"""Where reports lie that are committed, from the top of the checkout."""


def write_report(name: str, folder: Path, measured: Mapping[str, Any]) -> Path:
    """Add a run to the report of a benchmark and this day.

    Args:
        measured: what was measured, ready for JSON.

    Raises:
        BadInput: what lies there is no report.
    """
    now = datetime.now(UTC)
    commit, changed = describe_code(CHECKOUT)
    run = {
        "time": f"{now:%Y-%m-%d %H:%M} UTC",
        "machine": str(describe_machine()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "changed": changed,
        **measured,
    }
    path = folder / f"{now:%Y-%m-%d}-{name}.json"
    report = read_report(path) if path.exists() else {"command": f"python -m benchmarks {name}", "runs": []}
    report["runs"].append(run)
    write_whole(path, (json.dumps(report, indent=1) + "\n").encode())
    return path


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that runs can be added to.

    Raises:
        BadInput: it is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: got no JSON ({error}), wanted a report; move it away") from error
    if not isinstance(report, dict) or not isinstance(report.get("runs"), list):
        raise BadInput(f"{path}: got no list of runs, wanted a report that has one; move it away")
    return report
