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


ARMS = {
    "aligned": "aligned",
    "not aligned": "as_trained",
    "aligned, one view permuted": "permuted",
    "aligned, loss on behaviour": "behaviour",
}
BASELINES = {"baseline: before training": "untrained_", "baseline: PCA of the same size": "pca_"}


def test_curve_over_training_members_is_the_studys():
    metrics = json.loads((ROOT / "studies/scaling/data/report/scaling/metrics.json").read_text(encoding="utf-8"))
    arms = metrics["sweeps"]["members"]
    table = README.split("<!-- scaling -->")[1].split("<!-- end scaling -->")[0].strip().splitlines()
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:])}
    assert set(rows) == set(ARMS) | set(BASELINES)
    for row, arm in ARMS.items():
        names = [f"kept_share_unseen{end}" for end in ("", "_low", "_high")]
        ends = [[100 * figures[name] for name in names] for figures in arms[arm].values()]
        assert rows[row] == [f"{value:.0f} [{low:.0f}, {high:.0f}]" for value, low, high in ends]
    for row, prefix in BASELINES.items():
        shown = [f"{100 * figures[f'{prefix}kept_share_unseen']:.0f}" for figures in arms["aligned"].values()]
        assert rows[row] == shown
