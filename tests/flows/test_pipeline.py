"""The command `python -m flows.pipeline` on the toy project."""

import json
import os
import platform
import signal
import urllib.request

import psutil
import pytest

from tests.flows.conftest import ask_server


@pytest.fixture
def piped(toy, server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", server)
    return toy


def ask(server: str, path: str, method: str = "POST", **question):
    content = None if method == "GET" else json.dumps(question).encode()
    request = urllib.request.Request(f"{server}/{path}", content, {"Content-Type": "application/json"}, method=method)
    return ask_server(request)


@pytest.mark.server
def test_pipeline_runs_everything_once_and_shows_it(piped, server):
    first = piped.run("-m", "flows.pipeline")
    assert first.returncode == 0, first.stderr
    assert sorted(piped.ran()) == ["images@a", "images@b", "zoo@z"]
    assert first.stderr == ""
    assert "3 stages in" in first.stdout
    again = piped.run("-m", "flows.pipeline", "--force", "images@b", "images")
    assert again.returncode == 0
    assert piped.ran() == ["images@b"]
    assert "2 stages in" in again.stdout
    tasks = {task["name"]: task for task in ask(server, "task_runs/filter")}
    shards = [task for name, task in tasks.items() if name.startswith("shard")]
    assert len(shards) == 2
    for shard in shards:
        assert [parent["id"] for parent in shard["task_inputs"]["__parents__"]] == [tasks["zoo@z"]["id"]]
    kept = {artifact["key"]: artifact["data"] for artifact in ask(server, "artifacts/latest/filter")}
    assert {row["stage"]: row["how"] for row in json.loads(kept["stages-quickstart"])} == {
        "images@a": "skipped",
        "images@b": "ran",
    }
    assert {row["path"] for row in json.loads(kept["outputs-quickstart"])} == {"data/images/a", "data/images/b"}
    assert kept["progress-quickstart"] == 100.0
    runs = {run["name"]: set(run["tags"]) for run in ask(server, "flow_runs/filter")}
    assert runs["quickstart: all"] == {"study:quickstart"}
    assert runs["quickstart: images; images@b, forced"] == {"study:quickstart", "target:images"}
    assert set(tasks["zoo@z"]["tags"]) == {"study:quickstart", "zoo"}
    looked_at = [set(task["tags"]) for task in ask(server, "task_runs/filter") if task["name"] == "images@a"]
    assert sorted(looked_at, key=len) == [set(), {"study:quickstart", "images"}], "to skip a stage asks for no limits"


@pytest.mark.server
def test_failure_tells_why_and_spares_what_does_not_need_it(piped):
    piped.write("bad/images@a")
    result = piped.run("-m", "flows.pipeline")
    assert (result.returncode, result.stderr) == (2, "error: images@a: images.gz: 3 bytes, wanted 16\n")
    assert sorted(piped.ran()) == ["images@a", "images@b"]
    table = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()[-5:-1]}
    assert (table["images@a"], table["images@b"], table["zoo@z"]) == ("failed", "ran", "not")


@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_pipeline_leaves_nothing_running_and_can_start_again(piped, number):
    piped.write("wait/images@a")
    pipeline = piped.start("-m", "flows.pipeline", "images@a")
    stage = psutil.Process(int(piped.wait_for("waiting")))
    os.kill(pipeline.pid, number)
    pipeline.communicate(timeout=60)
    stage.wait(timeout=60)
    (piped.root / "wait/images@a").unlink()
    assert piped.dvc("repro", "images@a").returncode == 0


@pytest.mark.server
def test_second_pipeline_waits_for_the_first(piped):
    pipelines = [piped.start("-m", "flows.pipeline") for _ in range(2)]
    results = [pipeline.communicate(timeout=300) for pipeline in pipelines]
    assert [pipeline.returncode for pipeline in pipelines] == [0, 0], results
    assert sorted(piped.ran()) == ["images@a", "images@b", "zoo@z"]


@pytest.mark.server
def test_stage_that_something_kills_is_gone_on_with(piped, monkeypatch):
    # What starts at a fixed time has no SHELL; DVC then takes one that may stay beside the stage.
    monkeypatch.delenv("SHELL", raising=False)
    piped.write("wait/images@a")
    pipeline = piped.start("-m", "flows.pipeline", "images@a")
    os.kill(int(piped.wait_for("waiting")), signal.SIGKILL)
    (piped.root / "wait/images@a").unlink()
    out, err = pipeline.communicate(timeout=300)
    assert (pipeline.returncode, err) == (0, "")
    assert "killed by SIGKILL; what it has finished is kept, run it again to go on; trying again" in out
    assert piped.ran() == ["images@a", "images@a"]


@pytest.mark.server
def test_run_that_takes_too_long_is_ended_with_what_it_started(piped, server):
    piped.write("wait/images@a")
    # On a busy machine the stage may not have begun by then; if it has, it ends with the run.
    pipeline = piped.start("-m", "flows.pipeline", "images@a", "--timeout-h", "0.002")
    _, err = pipeline.communicate(timeout=300)
    assert pipeline.returncode == 1
    assert err == "error: the run took longer than its parameter timeout_h; what it finished is kept\n"
    assert piped.list_processes() == []
    assert "TimedOut" in {run["state_name"] for run in ask(server, "flow_runs/filter")}


@pytest.mark.server
def test_stage_on_a_gpu_waits_until_it_has_the_gpu_and_gives_it_back(piped, server):
    piped.change("device: cpu", "device: cuda:1")
    name = f"gpu-{platform.node()}-1"
    ask(server, "v2/concurrency_limits/", name=name, limit=1, active_slots=1)
    pipeline = piped.start("-m", "flows.pipeline")
    assert pipeline.stdout
    seen = []
    for line in pipeline.stdout:
        seen.append(line)
        if f"waiting for {name}, which another run holds" in line:
            break
    assert "zoo@z" not in piped.ran(), seen
    ask(server, f"v2/concurrency_limits/{name}", "PATCH", active_slots=0)
    assert pipeline.communicate(timeout=300)[1] == ""
    assert "zoo@z" in piped.ran()
    assert ask(server, f"v2/concurrency_limits/{name}", "GET")["active_slots"] == 0


@pytest.mark.server
def test_gpu_that_no_run_has_used_before_gets_a_limit_and_a_cpu_none(piped, server):
    piped.change("device: cpu", "device: cuda:7")
    assert piped.run("-m", "flows.pipeline").returncode == 0
    limit = ask(server, f"v2/concurrency_limits/gpu-{platform.node()}-7", "GET")
    assert (limit["limit"], limit["active_slots"]) == (1, 0)
    names = {each["name"] for each in ask(server, "v2/concurrency_limits/filter")}
    assert all(name.endswith(("-1", "-7")) for name in names)


@pytest.mark.parametrize(
    ("old", "new", "arguments", "wanted"),
    [
        ("epochs: 1", "epoch: 1", [], "error: params.yaml: zoo.z.epoch: unknown key, wanted 'epochs'? (known: "),
        ("epochs: 1", "epochs: 1", ["zooo"], "error: stage: got 'zooo', wanted 'zoo'? (known: images, "),
        ("epochs: 1", "epochs: 1", ["--force", "zoo@y"], "error: stage: got 'zoo@y', wanted 'zoo@z'? (known: zoo@z)"),
        ("epochs: 1", "epochs: 1", ["--timeout-h", "0"], "error: --timeout-h: got 0, wanted more than 0 and at most "),
        ("epochs: 1", "epochs: 1", ["--study", "nowhere"], "error: --study: got 'nowhere', wanted a folder with a "),
    ],
)
def test_bad_request_gets_one_line_before_anything_starts(toy, old, new, arguments, wanted):
    toy.change(old, new)
    result = toy.run("-m", "flows.pipeline", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(wanted)
    assert result.stderr.count("\n") == 1
    assert not (toy.root / ".prefect").exists()


def test_folder_outside_any_checkout_gets_one_line(toy, tmp_path):
    result = toy.run("-m", "flows.pipeline", "--study", str(tmp_path))
    assert result.returncode == 2
    assert "params.yaml: missing" in result.stderr
