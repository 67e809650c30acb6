"""Every figure on the README's first screen is one that a report in benchmarks/reports holds."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = ROOT / "benchmarks" / "reports" / re.search(r"benchmarks/reports/([\w-]+\.json)", README).group(1)
FIGURES = json.loads(REPORT.read_text(encoding="utf-8"))


def format_row(template):
    """Fill a row of the README's table with the report's figures."""
    return re.sub(r"\{([\w.]+?)(?:/(\w+))?\}", lambda m: f"{FIGURES['figures'][m[1]]:{'.' + (m[2] or '2f')}}", template)


@pytest.mark.parametrize("row", FIGURES["readme"])
def test_row_of_the_table_holds_the_reports_figures(row):
    assert f"| {row} | {format_row(FIGURES['readme'][row])} |" in README


def test_every_row_of_the_table_is_backed_by_the_report():
    table = README.split("<!-- figures -->")[1].split("<!-- end -->")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert rows
    assert set(rows) == set(FIGURES["readme"])


def test_science_figures_are_those_of_the_committed_metrics():
    metrics = json.loads((ROOT / "data/report/quickstart/metrics.json").read_text(encoding="utf-8"))
    science = {name: value for name, value in FIGURES["figures"].items() if name.split(".")[0] in metrics}
    assert science
    for name, value in science.items():
        found = metrics
        for key in name.split("."):
            found = found[key]
        assert found == value, name
