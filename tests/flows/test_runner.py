"""What the pipeline does about one stage, on real DVC, without Prefect."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from zc.lockfile import LockFile

from flows.orchestration.graph import Busy, Part, is_changed, list_outs, read_graph, survey
from flows.orchestration.runner import StageFailed, StageRunner


@pytest.fixture
def runner(toy, monkeypatch):
    monkeypatch.chdir(toy.root)
    with StageRunner(at_once=2) as runner:
        yield runner


def bring(runner: StageRunner, name: str, force: bool = False, lines: list[str] | None = None):
    return runner.bring_up_to_date(name, force, {}, (lines if lines is not None else []).append)


def test_graph_is_in_an_order_that_works(toy, runner):
    assert read_graph() == {"images@a": [], "images@b": [], "zoo@z": ["images@a"]}


def test_stage_runs_then_skips_then_is_restored(toy, runner):
    for name in ("images@a", "zoo@z"):
        assert bring(runner, name).how == "ran"
    assert bring(runner, "zoo@z").how == "skipped"
    toy.change("epochs: 1", "epochs: 2")
    assert bring(runner, "zoo@z").how == "ran"
    toy.change("epochs: 2", "epochs: 1")
    assert bring(runner, "zoo@z").how == "restored"
    assert (toy.root / "data/figures/z.json").read_text() == '{"epochs": 1}'
    assert toy.ran() == ["images@a", "zoo@z", "zoo@z"]


def test_run_says_what_it_made(toy, runner):
    (out,) = bring(runner, "images@a").outs
    assert out["path"] == "data/images/a"
    assert out["hash"] is not None
    assert out["hash"].endswith(".dir")


def test_dvc_finds_nothing_left_to_do(toy, runner):
    for name in read_graph():
        bring(runner, name)
    toy.ran()
    assert "up to date" in toy.dvc("repro").stdout
    assert toy.ran() == []


def test_pipeline_finds_nothing_left_to_do(toy, runner):
    assert toy.dvc("repro").returncode == 0
    assert [name for name in read_graph() if is_changed(name)] == []


def list_unchanged(*forced: str) -> dict:
    return survey(lambda graph: Part(graph, forced))[1]


def test_one_look_at_all_stages_finds_those_that_need_not_be_looked_at_again(toy, runner):
    assert list_unchanged() == {}
    assert toy.dvc("repro").returncode == 0
    assert list_unchanged() == {name: list_outs(name) for name in read_graph()}
    assert set(list_unchanged("images@a")) == {"images@b"}
    assert set(survey(lambda graph: Part({"images@b": graph["images@b"]}))[1]) == {"images@b"}
    toy.change("epochs: 1", "epochs: 2")
    held = LockFile(str(toy.root / ".dvc/tmp/lock"))
    released: list[bool] = []
    threading.Timer(0.7, lambda: (released.append(True), held.close())).start()
    assert set(list_unchanged()) == {"images@a", "images@b"}
    assert released, "it waits for another DVC process"


def test_lock_file_that_another_process_is_writing_is_not_read(toy, runner):
    bring(runner, "images@a")
    lock_file, whole = toy.root / "dvc.lock", (toy.root / "dvc.lock").read_bytes()
    held = LockFile(str(toy.root / ".dvc/tmp/lock"))
    lock_file.write_bytes(whole[: len(whole) // 2])

    def finish():
        lock_file.write_bytes(whole)
        held.close()

    with pytest.raises(Busy):
        is_changed("images@a")
    writer = threading.Timer(0.7, finish)
    writer.start()
    assert [out["path"] for out in list_outs("images@a")] == ["data/images/a"]
    assert not is_changed("images@a")


def test_force_runs_unchanged_stage_to_the_same_lock_file(toy, runner):
    bring(runner, "images@a")
    before = (toy.root / "dvc.lock").read_bytes()
    assert bring(runner, "images@a", force=True).how == "ran"
    assert toy.ran() == ["images@a", "images@a"]
    assert (toy.root / "dvc.lock").read_bytes() == before


def test_lines_of_the_stage_are_heard_and_not_those_of_dvc(toy, runner):
    lines: list[str] = []
    bring(runner, "images@a", lines=lines)
    assert len(lines) == 1
    assert "done in" in lines[0]


def test_bad_input_is_told_and_earlier_output_comes_back(toy, runner):
    for name in ("images@a", "zoo@z"):
        bring(runner, name)
    made = {path: (toy.root / path).read_bytes() for path in ("data/zoo/z/made", "data/figures/z.json", "dvc.lock")}
    toy.change("epochs: 1", "epochs: 2")
    toy.write("bad/zoo@z")
    with pytest.raises(StageFailed) as caught:
        bring(runner, "zoo@z")
    assert (caught.value.exit_status, caught.value.reason) == (2, "images.gz: 3 bytes, wanted 16")
    assert {path: (toy.root / path).read_bytes() for path in made} == made
    (toy.root / "bad/zoo@z").unlink()
    assert bring(runner, "zoo@z").how == "ran"


def test_failure_under_plain_dvc_brings_earlier_output_back(toy):
    toy.dvc("repro")
    toy.change("epochs: 1", "epochs: 2")
    toy.write("bad/zoo@z")
    result = toy.dvc("repro")
    assert result.returncode != 0
    assert "error: images.gz: 3 bytes, wanted 16\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert '"epochs":1' in (toy.root / "data/zoo/z/made").read_text()


def test_bug_is_told_and_a_first_failure_leaves_nothing(toy, runner):
    toy.write("fail/images@a")
    with pytest.raises(StageFailed) as caught:
        bring(runner, "images@a")
    assert (caught.value.exit_status, caught.value.reason) == (1, "RuntimeError: a bug")
    assert not (toy.root / "data/images/a").exists()


def test_stage_that_dvc_runs_by_hand_is_busy(toy, runner):
    toy.write("wait/images@a")
    by_hand = toy.start("-m", "dvc", "repro", "images@a")
    toy.wait_for("waiting")
    with pytest.raises(Busy):
        bring(runner, "images@a")
    os.killpg(by_hand.pid, signal.SIGKILL)
    by_hand.communicate()
    (toy.root / "wait/images@a").unlink()
    assert bring(runner, "images@a").how == "ran"


@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux only")
def test_stage_ends_when_dvc_is_killed(toy, monkeypatch):
    # What starts at a fixed time has no SHELL; DVC then takes one that may stay beside the stage.
    monkeypatch.delenv("SHELL", raising=False)
    toy.write("wait/images@a")
    by_hand = toy.start("-m", "dvc", "repro", "images@a")
    stage = psutil.Process(int(toy.wait_for("waiting")))
    by_hand.kill()
    by_hand.communicate()
    stage.wait(timeout=20)
    assert not stage.is_running()


def test_stopping_ends_the_stage_and_brings_earlier_output_back(toy, runner):
    bring(runner, "images@a")
    toy.change("classes: 10", "classes: 9")
    toy.write("wait/images@a")
    code = (
        "import threading, time\n"
        "from pathlib import Path\n"
        "from flows.orchestration.runner import StageRunner\n"
        "runner = StageRunner(2)\n"
        "work = threading.Thread(target=runner.bring_up_to_date, args=('images@a', False, {}, print))\n"
        "work.start()\n"
        "while not Path('waiting').exists():\n"
        "    time.sleep(0.1)\n"
        "runner.children.stop()\n"
        "work.join()\n"
    )
    result = toy.run("-c", code)
    assert "StageFailed: images@a ended with status -15" in result.stderr
    stage = int((toy.root / "waiting").read_text())
    if psutil.pid_exists(stage):
        psutil.Process(stage).wait(timeout=20)
    assert '"classes":10' in (toy.root / "data/images/a/made").read_text()
