import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo
from PIL import Image

from benchmarks.history import Measured, read_history, write_run
from benchmarks.shown import is_ignored, show_run
from benchmarks.verdicts import judge_figures
from tests.benchmarks.made_up import SCIENCE, SPEED, TIME, make_up_run


def show(history: Path, number: int, figures: dict) -> str:
    """Do what the rerun does once it has measured."""
    run = make_up_run(number, figures)
    verdicts = judge_figures(run.figures, read_history(history))
    write_run(history, run)
    return show_run(history, run, verdicts, {})


def test_the_table_begins_with_what_got_worse(tmp_path):
    show(tmp_path, 1, {TIME: 1.0, SCIENCE: Measured(0.9, 0.8, 0.95), SPEED: 20.0})
    table = show(tmp_path, 2, {TIME: 2.0, SCIENCE: Measured(0.9, 0.8, 0.95), SPEED: 5.0})
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert [row[1] for row in rows] == ["**worse**", "level", "not judged"]
    assert rows[0][2:6] == ["5", "20", "-75.0%", "30%"]
    assert rows[1][2] == "0.900 [0.800, 0.950]"
    assert (tmp_path / "latest.md").read_text() == table


def test_the_first_run_is_drawn_too(tmp_path):
    show(tmp_path, 1, {SPEED: 20.0})
    with Image.open(tmp_path / "trend.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=n@localhost")
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A project of git and DVC with one benchmark run, kept as the README says."""
    git(tmp_path, "init", "-q")
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path)):
        pass
    keep(tmp_path, 1, {SPEED: 20.0})
    return tmp_path


def keep(checkout: Path, number: int, figures: dict) -> None:
    """Run, and keep the run with DVC and git."""
    history = checkout / "data/benchmark"
    show(history, number, figures)
    with Repo(str(checkout)) as repository:
        repository.add(["data/benchmark/runs"])
    git(
        checkout,
        "add",
        "data/benchmark/runs.dvc",
        *(f"data/benchmark/{n}" for n in ("dvc.yaml", "metrics.json", "trend.csv")),
    )
    git(checkout, "commit", "-q", "-m", "a run")


def test_dvc_tells_two_runs_apart(checkout):
    show(checkout / "data/benchmark", 2, {SPEED: 5.0})
    with Repo(str(checkout)) as repository:
        found = repository.metrics.diff()
        assert "errors" not in found
        assert found["diff"] == {"data/benchmark/metrics.json": {SPEED: {"old": 20.0, "new": 5.0, "diff": -15.0}}}
        plots = repository.plots.diff()
        rows = {name: list_rows(plots[name]) for name in ("HEAD", "workspace")}
    assert [row[SPEED] for row in rows["HEAD"]] == ["20.0"]
    assert [row[SPEED] for row in rows["workspace"]] == ["20.0", "5.0"]


def list_rows(revision: dict) -> list[dict]:
    return revision["sources"]["data"]["data/benchmark/trend.csv"]["data"]


def test_dvc_brings_back_the_runs_of_a_commit(checkout):
    keep(checkout, 2, {SPEED: 5.0})
    git(checkout, "checkout", "-q", "HEAD~1")
    with Repo(str(checkout)) as repository:
        repository.checkout()
    assert list(read_history(checkout / "data/benchmark")["value"]) == [20.0]
    git(checkout, "checkout", "-q", "-")
    with Repo(str(checkout)) as repository:
        repository.checkout()
    assert list(read_history(checkout / "data/benchmark")["value"]) == [20.0, 5.0]
    keep(checkout, 3, {SPEED: 6.0})
    assert list(read_history(checkout / "data/benchmark")["value"]) == [20.0, 5.0, 6.0]


def test_a_history_that_git_ignores_does_not_keep_dvc_from_working(checkout):
    (checkout / ".gitignore").write_text("/scratch/\n")
    show(checkout / "scratch", 1, {SPEED: 20.0})
    with Repo(str(checkout)) as repository:
        assert "errors" not in repository.metrics.show()[""]


def test_the_checkouts_own_history_is_one_that_dvc_reads():
    history = Path(__file__).parents[2] / "data/benchmark"
    for name in ("runs.dvc", "dvc.yaml", "dvc.lock", "metrics.json", "trend.csv"):
        assert not is_ignored(history, name), name
    assert is_ignored(history, "runs/a.parquet")
