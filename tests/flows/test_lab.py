"""Deployments for real: a server, a process that serves them or a worker, and runs that are asked for by the API."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.pipeline import clean_environment, copy_checkout
from flows.orchestration.server import HOST, find_free_port
from tests.flows.conftest import ask_server

LIMIT_S = 1500
"""Only to end a test that hangs; a busy machine is slow."""
STAGES = ("images", "zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer", "report")


def heed_interrupts() -> None:
    """Undo what a shell does to its background jobs: Prefect's worker ends by an interrupt, and by none if ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Lab:
    """A checkout as after a clone, with a server, and what runs there."""

    root: Path
    port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    def environment(self) -> dict[str, str]:
        quiet = {"PREFECT_CLI_PROMPT": "false", "PREFECT_WORKER_QUERY_SECONDS": "1", "DO_NOT_TRACK": "1"}
        home = {"PREFECT_HOME": str(self.root / ".prefect"), "PREFECT_API_URL": self.url}
        ours = {name: value for name, value in clean_environment().items() if name != "OMP_NUM_THREADS"}
        return {**ours, **quiet, **home, "PYTHONPATH": str(self.root), "PWD": str(self.root)}

    def start(self, *command: str, **environment: str | None) -> None:
        """Start what goes on until the test ends."""
        combined = {**self.environment(), **environment}
        with (self.root / f"log{len(self.running)}").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root,
                env={name: value for name, value in combined.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        self.running.append(process)

    def run(self, *command: str) -> str:
        """Run a command of Prefect to its end."""
        result = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def ask(self, path: str, question: dict | None = None):
        request = urllib.request.Request(
            f"{self.url}/{path}",
            None if question is None else json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        return ask_server(request)

    def wait_for(self, path: str):
        """Ask until there is an answer."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return self.ask(path)
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, self.read_logs()
                assert all(process.poll() is None for process in self.running), self.read_logs()
                time.sleep(0.5)

    def request(self, deployment: str, **parameters):
        """Ask for a run, and wait for its end."""
        found = self.wait_for(f"deployments/name/{deployment}/{deployment}")
        run = self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        deadline = time.monotonic() + LIMIT_S
        while run["state_type"] not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            assert time.monotonic() < deadline, self.read_logs()
            time.sleep(0.5)
            run = self.ask(f"flow_runs/{run['id']}")
        return run

    def refuse(self, deployment: str, **parameters) -> str:
        """Ask for a run that is refused; returns why."""
        found = self.wait_for(f"deployments/name/{deployment}/{deployment}")
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        assert 400 <= caught.value.code < 500
        return json.load(caught.value)["detail"]

    def read_artifacts(self, run) -> dict[str, dict]:
        """Read what a run kept, by key."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
        return {artifact["key"]: artifact for artifact in self.ask("artifacts/filter", wanted)}

    def read_logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.root.glob("log*")))

    def stop(self) -> None:
        for process in reversed(self.running):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


SMALLER = {
    "      count: 512\n": "      count: 96\n",
    "    epochs: 50\n": "    epochs: 2\n",
    "      steps: 300\n": "      steps: 12\n",
    "iterations: 200,": "iterations: 5,",
    "    resamples: 1000\n": "    resamples: 100\n",
    "    num_samples: 32\n": "    num_samples: 8\n",
    "    num_per_row: 8\n    epochs: 10\n": "    num_per_row: 2\n    epochs: 2\n",
}
"""The quickstart with a zoo, trainings and probes that take seconds; all stages, rows and targets are there."""


@pytest.fixture
def lab(tmp_path):
    copy_checkout(tmp_path / "checkout")
    params = tmp_path / "checkout/params.yaml"
    text = params.read_text()
    for old, new in SMALLER.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    params.write_text(text)
    lab = Lab(tmp_path / "checkout", find_free_port())
    yield lab
    lab.stop()


@pytest.mark.lab
def test_quickstart_asked_for_by_the_api_ends_completed_with_readable_artifacts(lab, record_property):
    lab.start("flows.serve", "--port", str(lab.port), PREFECT_API_URL=None)
    run = lab.request("study", name="quickstart")
    record_property("seconds", run["total_run_time"])
    assert run["state_type"] == "COMPLETED", (run["state"], lab.read_logs())
    assert run["name"] == "quickstart"
    assert {"weightspace", "study:quickstart"} <= set(run["tags"])
    kept = lab.read_artifacts(run)
    table = json.loads(kept["stages-quickstart"]["data"])
    assert {row["stage"].partition("@")[0] for row in table} == set(STAGES)
    assert {row["how"] for row in table} == {"ran"}
    report = lab.root / "data/report/quickstart/report.html"
    assert report.stat().st_size > 10_000
    assert report.as_uri() in kept["page-quickstart-quickstart"]["data"]
    assert "| zoo.num_members | 96 |" in kept["report-quickstart-quickstart"]["data"]
    plots = [each["data"] for key, each in kept.items() if key.startswith("plot-quickstart-")]
    assert len(plots) > 5
    assert all(b"<svg" in base64.b64decode(plot.partition(";base64,")[2]) for plot in plots)
    outs = {row["path"]: row["hash"] for row in json.loads(kept["outputs-quickstart"]["data"])}
    assert outs["data/zoo/digits"].endswith(".dir")
    assert [each["data"] for key, each in kept.items() if key.startswith("progress-")] == [100.0]


@pytest.mark.lab
def test_worker_runs_a_stage_and_the_api_refuses_wrong_parameters(lab):
    lab.start("prefect", "server", "start", "--host", HOST, "--port", str(lab.port))
    lab.wait_for("health")
    lab.run("work-pool", "create", "weightspace", "--type", "process")
    lab.run("deploy", "--all")
    assert "is not one of ['.', " in lab.refuse("pipeline", study="/etc")
    assert "does not match" in lab.refuse("pipeline", targets=["zooo"])
    assert "is not one of ['quickstart', " in lab.refuse("study", name="mnist")
    assert "is not one of ['quick', 'full']" in lab.refuse("benchmark", suite="fast")
    (schedule,) = lab.ask("deployments/name/benchmark/benchmark")["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (True, "0 3 * * *")
    lab.start("prefect", "worker", "start", "--pool", "weightspace", "--type", "process")
    run = lab.request("pipeline", targets=["images@digits"])
    assert run["state_type"] == "COMPLETED", (run["state"], lab.read_logs())
    assert run["name"] == "quickstart: images@digits"
    assert {"study:quickstart", "target:images@digits"} <= set(run["tags"])
    assert (lab.root / "data/images/digits/_record.json").is_file()
    failed = lab.request("pipeline", targets=["zoo@nothing"])
    assert failed["state_type"] == "FAILED"
    assert "BadInput: stage: got 'zoo@nothing', wanted one of zoo@digits" in failed["state"]["message"]
