"""The way back from a figure."""

import json

import pytest

from weightspace.config import BadInput, Config
from weightspace.record import write_record
from weightspace.trace import read_figure, trace


class Seeded(Config):
    """Any configuration."""

    seed: int


@pytest.fixture
def report(tmp_path):
    """A report of one set of probes of one zoo."""
    records, inputs = {}, {"zoo": (), "probes": ("zoo",), "samples": ("zoo",), "report": ("probes", "samples")}
    for seed, (stage, needs) in enumerate(inputs.items()):
        folder = tmp_path / "data" / stage / "a"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"probes": {"lr": {"r2": 0.5}, "at.1": {"r2": 0.25}}}))
        records[stage] = write_record(folder, stage, "a", Seeded(seed=seed), {need: records[need] for need in needs})
    return tmp_path / "data/report/a"


def test_figure_is_followed_to_all_that_it_came_from_and_to_nothing_else(report):
    lines = list(trace(report / "metrics.json", "probes.lr.r2"))
    assert lines[0] == "probes.lr.r2 = 0.5"
    assert [line for line in lines if line.endswith("intact")] == [
        "report a  intact",
        "probes a  intact",
        "zoo a  intact",
    ]
    assert lines[-1] == "3 outputs, all digests agree"


def test_seeds_are_shown(report):
    assert "seed 0" in "\n".join(trace(report.parents[1] / "zoo/a", None))


def test_key_may_hold_dots(report):
    assert read_figure(report / "metrics.json", "probes.at.1.r2") == 0.25


def test_input_that_was_made_anew_since_is_told(report):
    zoo = report.parents[1] / "zoo/a"
    (zoo / "metrics.json").write_text("{}")
    write_record(zoo, "zoo", "a", Seeded(seed=9), {})
    lines = list(trace(report, None))
    assert "zoo a  NOT AS RECORDED" in lines
    assert lines[-1] == "4 outputs, 1 of them NOT as recorded"


def test_file_that_was_altered_is_told(report):
    (report.parents[1] / "probes/a/metrics.json").write_text("{}")
    assert "probes a  NOT AS RECORDED" in list(trace(report, None))


def test_note_of_the_run_says_where_and_from_which_code(report):
    note = report.parents[1] / ".work/runs/zoo/a.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"started": "2026-01-01", "host": "here", "commit": 40 * "a" + "-dirty"}))
    assert f"  last run 2026-01-01 on here, cpu, code {12 * 'a'}-dirty" in list(trace(report, None))


@pytest.mark.parametrize("key", ["probes.lr.r3", "probes.lr", "nothing", "probes.lr.r2.more"])
def test_figure_that_is_not_there_gets_one_line(report, key):
    with pytest.raises(BadInput, match="wanted"):
        read_figure(report / "metrics.json", key)
