import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rerun
from benchmarks.__main__ import find_status, read_settings
from benchmarks.figures import FIGURES, find_expected
from benchmarks.history import Measured, read_history, write_run
from benchmarks.pipeline import CHECKOUT
from benchmarks.quickstart import measure as measure_quickstart
from benchmarks.rerun import SUITES, choose_benchmarks, list_faults, measure, read_figures
from benchmarks.zoo import CASES
from benchmarks.zoo import measure as measure_zoo
from tests.benchmarks.made_up import SCIENCE, SPEED, make_up_run
from weightspace.config import BadInput


def run_command(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks", "rerun", *words]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def add_past(history: Path, name: str, measured: Measured, suite: str = "quick") -> None:
    """Add a run before, on a machine such as this."""
    write_run(history, make_up_run(1, {name: measured}, rerun.describe_machine(), suite))


def test_the_command_runs_a_benchmark_keeps_it_and_says_what_got_worse(tmp_path):
    add_past(tmp_path, SCIENCE, Measured(0.999, 0.998, 0.9999))
    done = run_command("--only", "quickstart", "--history", str(tmp_path), "--json", str(path := tmp_path / "out.json"))
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"worse: {SCIENCE} 0.9")
    assert "was 0.999 [0.998, 0.9999]; higher is better" in line
    found = json.loads(path.read_text())
    assert found["worse"] == [SCIENCE]
    assert found["failed"] == {}
    assert [verdict["figure"] for verdict in found["verdicts"]] == list(found["figures"])
    verdicts = {verdict["figure"]: verdict["verdict"] for verdict in found["verdicts"]}
    assert verdicts.pop(SCIENCE) == "worse"
    assert set(verdicts.values()) == {"no reference"}
    kept = read_history(tmp_path)
    assert dict(zip(kept["figure"][1:], kept["value"][1:], strict=True)) == found["figures"]
    assert (tmp_path / "latest.md").read_text() in done.stdout


def test_a_benchmark_that_fails_is_named_and_the_others_are_kept(tmp_path, monkeypatch, capfd):
    suite = {"weights": ("--encoded", "few"), "quickstart": ()}
    monkeypatch.setitem(SUITES, "quick", suite)
    found = measure("quick", tmp_path)
    assert found["failed"] == {"weights": "it ended with status 2"}
    assert find_status(found) == 1
    assert set(read_history(tmp_path)["figure"]) == set(found["figures"]) == set(find_expected("quickstart", True))
    assert "error: benchmark weights: it ended with status 2" in capfd.readouterr().err
    assert "**Failed: weights**" in (tmp_path / "latest.md").read_text()


def test_when_all_fail_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(SUITES, "quick", {"quickstart": ("--metrics", str(tmp_path / "none.json"))})
    assert measure("quick", tmp_path)["failed"] == {"quickstart": "it ended with status 2"}
    assert len(read_history(tmp_path)) == 0


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--suite", "slow"), "--suite: got 'slow', wanted one of quick, full"),
        (("--only", "quikstart"), "--only: got 'quikstart', wanted some of quickstart, zoo, weights, hyperrep, probes"),
        (("--history", "README.md"), "--history: got README.md, which is a file, wanted a folder"),
        (("--speed", "high"), "benchmark: got --speed, wanted --suite, --history, --only"),
    ],
)
def test_bad_input_is_told_before_anything_runs(words, wanted):
    settings = dict(zip(words[::2], words[1::2], strict=True))
    with pytest.raises(BadInput) as caught:
        measure(**read_settings(measure, words))
    assert str(caught.value) == wanted, settings


def test_a_damaged_history_is_told_before_anything_runs(tmp_path):
    path = write_run(tmp_path, make_up_run(1, {SPEED: 1.0}))
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=path.name):
        measure("quick", tmp_path)


@pytest.mark.parametrize(
    ("found", "faults", "kept"),
    [
        ({SPEED: 2.0}, [], {SPEED}),
        ({}, [f"it gave no {SPEED}, which benchmarks/figures.py declares"], set()),
        ({SPEED: 2.0, "zoo.new": 1.0}, ["it gave zoo.new, which benchmarks/figures.py does not declare"], {SPEED}),
        ({SPEED: float("nan")}, [f"it gave {SPEED} = nan"], set()),
    ],
    ids=["as declared", "missing", "unknown", "not finite"],
)
def test_figures_are_those_that_are_declared(found, faults, kept):
    assert list_faults(found, [SPEED]) == faults
    assert set(read_figures(found, [SPEED], 1.0)) == kept


def test_science_without_an_interval_is_missing_something():
    assert list_faults({SCIENCE: 0.5, f"{SCIENCE}_low": 0.4}, [SCIENCE]) == [
        f"it gave no {SCIENCE}_high, which benchmarks/figures.py declares"
    ]
    assert read_figures({SCIENCE: 0.5, f"{SCIENCE}_low": 0.4}, [SCIENCE], 1.0) == {}


def test_every_declared_figure_is_one_that_a_suite_measures():
    benchmarks = set(SUITES["full"])
    assert set(SUITES["quick"]) <= benchmarks
    assert {name.partition(".")[0] for name in FIGURES} == benchmarks
    for name in SUITES["quick"]:
        assert set(find_expected(name, True)) <= set(find_expected(name, False))


def test_what_is_judged_has_a_tolerance_or_intervals():
    for name, figure in FIGURES.items():
        assert (figure.tolerance is None) == (figure.kind in ("seconds", "science")), name
        assert figure.tolerance is None or 0 <= figure.tolerance < 1, name


def test_each_network_of_the_zoo_benchmark_is_declared():
    declared = {name for name in FIGURES if name.endswith("_over_baseline")}
    assert declared == {f"zoo.{case}_over_baseline" for case in CASES}


def test_a_network_that_the_zoo_benchmark_lacks_is_told():
    with pytest.raises(BadInput, match="--cases: got 'cnn_x', wanted some of cnn_s_b10,"):
        measure_zoo("cnn_s_b10,cnn_x")


def test_the_science_is_in_the_committed_report():
    figures = measure_quickstart()
    assert (
        list_faults({f"quickstart.{name}": value for name, value in figures.items()}, find_expected("quickstart", True))
        == []
    )


def test_a_report_without_a_figure_is_told(tmp_path):
    (path := tmp_path / "metrics.json").write_text('{"zoo": {"accuracy_mean": "high"}}')
    with pytest.raises(BadInput, match=r"zoo\.accuracy_mean is 'high', wanted a number"):
        measure_quickstart(path)


def test_a_sub_figure_of_each_suite_can_be_chosen():
    assert choose_benchmarks("full", "pipeline,zoo") == {"zoo": ("--reports", ""), "pipeline": ()}
    assert list(choose_benchmarks("quick", "")) == list(SUITES["quick"])
