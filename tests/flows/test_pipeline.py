"""The command `python -m flows.pipeline` on the toy project."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import psutil
import pytest

from flows.orchestration.server import start_server
from flows.orchestration.settings import apply_settings

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        checkout = tmp_path_factory.mktemp("server")
        (checkout / ".dvc").mkdir()
        apply_settings(checkout)
        server = start_server()
        assert server is not None
        server.wait()
        yield server.url
        server.stop()


@pytest.fixture
def piped(toy, server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", server)
    return toy


def ask(server: str, path: str, **question):
    request = urllib.request.Request(
        f"{server}/{path}", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


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
    tables = ask(server, "artifacts/filter")
    assert {row["stage"] for row in json.loads(tables[-1]["data"])} <= {"images@a", "images@b", "zoo@z"}


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


@pytest.mark.parametrize(
    ("old", "new", "arguments", "wanted"),
    [
        ("epochs: 1", "epoch: 1", [], "error: params.yaml: zoo.z.epoch: unknown key, wanted 'epochs'? (known: "),
        ("epochs: 1", "epochs: 1", ["zooo"], "error: stage: got 'zooo', wanted 'zoo'? (known: images, "),
        ("epochs: 1", "epochs: 1", ["--force", "zoo@y"], "error: stage: got 'zoo@y', wanted 'zoo@z'? (known: zoo@z)"),
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


def test_deployment_names_the_flow_and_its_parameters(toy):
    code = (
        "import ruamel.yaml, prefect.flows, pathlib\n"
        f"text = pathlib.Path({str(CHECKOUT / 'prefect.yaml')!r}).read_text()\n"
        "(deployment,) = ruamel.yaml.YAML(typ='safe').load(text)['deployments']\n"
        "flow = prefect.flows.load_flow_from_entrypoint(deployment['entrypoint'])\n"
        "print(sorted(flow.parameters.properties) == sorted(deployment['parameters']), flow.name, deployment['name'])"
    )
    (toy.root / "flows").symlink_to(CHECKOUT / "flows")
    result = toy.run("-c", code)
    assert result.stdout == "True pipeline pipeline\n", result.stderr
