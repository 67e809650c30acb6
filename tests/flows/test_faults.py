"""What is left after a kill, and what the next run makes of it."""

import json
import os
import random
import shutil
import signal
import time

import psutil
import pytest

from benchmarks.fault_project import copy_project
from benchmarks.fault_studies import STUDIES
from benchmarks.faults import check_end, kill_until_done, run_reference
from flows.orchestration.graph import is_owner, read_graph
from flows.orchestration.runner import StageFailed, StageRunner

KILLS = 5


@pytest.fixture
def runner(toy, monkeypatch):
    monkeypatch.chdir(toy.root)
    with StageRunner(at_once=2) as runner:
        yield runner


@pytest.mark.slow
def test_study_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    STUDIES["toy"](tmp_path / "made")
    reference = run_reference(tmp_path / "made", "", ["dvc"])
    generator, kills, number = random.Random(), 0, 0
    while kills < KILLS:
        project = copy_project(tmp_path / "made", tmp_path / f"trial{number}", "")
        kills += kill_until_done(project, reference, generator, KILLS - kills)["kills"]
        check_end(project, reference.wanted)
        assert project.faults == []
        number += 1


@pytest.mark.parametrize("text", ["", '{"write": {"/data/ima', "[]"])
def test_path_locks_that_were_cut_short_are_dropped(toy, runner, text):
    toy.write(".dvc/tmp/rwlock", text)
    read_graph()
    assert runner.bring_up_to_date("images@a", False, {}, print).how == "ran"


def test_path_lock_whose_number_another_process_has_got_is_dropped(toy, runner):
    place = str(toy.root / "data/images/a")
    toy.write(".dvc/tmp/rwlock", json.dumps({"write": {place: {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    os.utime(toy.root / ".dvc/tmp/rwlock", (1, 1))
    read_graph()
    assert not (toy.root / ".dvc/tmp/rwlock").exists()


def test_path_lock_of_a_process_that_runs_is_kept(toy, runner):
    text = json.dumps({"write": {str(toy.root / "data/images/a"): {"pid": os.getpid(), "cmd": "dvc repro"}}})
    toy.write(".dvc/tmp/rwlock", text)
    read_graph()
    assert (toy.root / ".dvc/tmp/rwlock").read_text() == text


def test_process_that_ended_but_was_not_cleared_away_owns_nothing(toy):
    process = toy.start("-c", "")
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_owner(process.pid, time.time())
    process.communicate()


def test_lock_file_that_was_cut_short_is_set_aside_and_results_come_back_without_a_run(toy, runner):
    for name in read_graph():
        runner.bring_up_to_date(name, False, {}, print)
    whole = (toy.root / "dvc.lock").read_bytes()
    (toy.root / "dvc.lock").write_bytes(whole[: whole.index(b"hash: md5") + 6])
    toy.ran()
    read_graph()
    assert {runner.bring_up_to_date(name, False, {}, print).how for name in read_graph()} == {"restored"}
    assert toy.ran() == []
    assert (toy.root / "dvc.lock").read_bytes() == whole


def test_change_of_mind_after_a_kill_brings_the_earlier_output_back(toy):
    assert toy.dvc("repro").returncode == 0
    toy.change("epochs: 1", "epochs: 2")
    toy.write("wait/zoo@z")
    toy.ran()
    run = toy.start("-m", "dvc", "repro")
    toy.wait_for("waiting")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert not (toy.root / "data/zoo/z").exists()
    toy.change("epochs: 2", "epochs: 1")
    toy.ran()
    assert toy.dvc("repro").returncode == 0
    assert toy.ran() == []
    assert '"epochs":1' in (toy.root / "data/zoo/z/made").read_text()


def test_killed_stage_is_told_what_to_do(toy):
    failure = StageFailed("zoo@z", -signal.SIGKILL, 1.0, ["10:00:00 shard 0: 5 of 16"])
    assert failure.reason == "killed by SIGKILL; what it has finished is kept, run it again to go on"


def test_output_altered_by_hand_is_noticed_by_dvc_and_made_as_it_was(toy, runner):
    runner.bring_up_to_date("images@a", False, {}, print)
    made = toy.root / "data/images/a/made"
    before = made.read_bytes()
    made.unlink()
    made.write_text("by hand")
    assert runner.bring_up_to_date("images@a", False, {}, print).how == "restored"
    assert made.read_bytes() == before


def test_stage_whose_output_is_no_longer_in_the_cache_runs_again_to_the_same_lock_file(toy, runner):
    runner.bring_up_to_date("images@a", False, {}, print)
    before = (toy.root / "dvc.lock").read_bytes()
    shutil.rmtree(toy.root / ".dvc/cache")
    assert runner.bring_up_to_date("images@a", False, {}, print).how == "ran"
    assert (toy.root / "dvc.lock").read_bytes() == before
