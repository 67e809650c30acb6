"""Shards of a zoo on threads, processes, Dask and Ray: the same bytes as here, whoever dies."""

import errno
import json
import os
import shutil
import signal
import sys
import time
import urllib.request
from concurrent.futures import Future
from functools import partial
from operator import methodcaller
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from prefect.futures import PrefectConcurrentFuture

from flows.orchestration.pools import PrefectWaiting, RayWaiting, is_ready
from flows.orchestration.runners import FILE_VARIABLE, Threads
from flows.orchestration.workers import LOOK_EVERY_S, make_terms, run_on_workers, wait_for
from tests.flows.conftest import CHECKOUT, Toy, ask_server, copy_code
from weightspace.config import BadInput
from weightspace.record import hash_file

RAY = pytest.param("ray", marks=pytest.mark.slow)
"""Ray gives itself 30 s to start, which a busy machine does not keep."""
KINDS = ("processes", "dask", RAY)
NUM_SHARDS = 6
LIMIT_S = 600
PARAMS = f"""
root: .
images:
  digits:
    source: {{kind: digits}}
    classes: 10
    side: 28
    fit: resize
    channels: 1
    split: {{kind: counts, train: 1000, val: 100, test: 100, seed: 0}}
    normalize: {{kind: train}}
zoo:
  z:
    images: digits
    architecture: cnn_s
    members:
      kind: draw
      count: {8 * NUM_SHARDS}
      seed: 1
      factors:
        activation: {{kind: fixed, value: tanh}}
        init: {{kind: choice, values: [uniform, kaiming_uniform]}}
        optimizer: {{kind: choice, values: [sgd, adam]}}
        lr: {{kind: log_uniform, low: 1.0e-3, high: 2.0e-2}}
        weight_decay: {{kind: fixed, value: 0.0}}
        dropout: {{kind: uniform, low: 0.0, high: 0.5}}
        batch_size: {{kind: fixed, value: 32}}
        train_fraction: {{kind: uniform, low: 0.5, high: 1.0}}
    epochs: 12
    shard_size: 8
    engine: auto
    device: cpu
    train_metrics: after
imports: {{}}
weights: {{}}
hyperrep: {{}}
embeddings: {{}}
probes: {{}}
samples: {{}}
transfer: {{}}
report: {{}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkout with its images, and with a zoo of six shards of a second or so as it is made here."""
    project = Toy(tmp_path_factory.mktemp("made") / "toy")
    project.root.mkdir()
    copy_code(project)
    project.write("params.yaml", PARAMS)
    for stage, name in (("images", "digits"), ("zoo", "z")):
        result = project.run("-m", f"flows.{stage}", name)
        assert result.returncode == 0, result.stderr
    return project


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """The same checkout without the zoo."""
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    shutil.copytree(made.root, tmp_path / "toy", symlinks=True)
    for folder in ("data/zoo/z", "data/.work/zoo/z"):
        shutil.rmtree(tmp_path / "toy" / folder)
    return Toy(tmp_path / "toy")


@pytest.fixture
def wanted(made):
    """The bytes of the zoo as it is made here."""
    return read_parts(made)


def read_parts(project):
    return {path.name: path.read_bytes() for path in (project.root / "data/zoo/z").iterdir()}


def choose(project, kind):
    project.write("runner.toml", f'kind = "{kind}"\nnum_workers = 2\n')


def wait_for_shard(project, stage):
    """Wait until a shard is there and others are at work."""
    deadline = time.monotonic() + LIMIT_S
    while not list((project.root / "data/.work/zoo/z").glob("[!.]*.parquet")):
        assert stage.poll() is None, stage.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def find_worker(stage):
    """Find the process below a stage that works hardest on shards."""
    workers = []
    for process in psutil.Process(stage.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        if "spawn_main" in command or command.startswith("ray::"):
            workers.append((sum(process.cpu_times()[:2]), process))
    return max(workers, key=lambda pair: pair[0])[1]


def wait_for_end(processes):
    """Wait until all have ended; returns those that have not."""
    _, alive = psutil.wait_procs(processes, timeout=30)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def fail_on_three(number):
    if number == 3:
        raise BadInput("three: got 3, wanted another")


def test_each_part_runs_once_and_what_one_raises_is_raised():
    seen: list[int] = []
    runner = Threads(kind="threads", num_workers=2)
    terms = make_terms(runner)
    run_on_workers(runner, [(seen.append, (number,), terms) for number in range(5)])
    assert sorted(seen) == list(range(5))
    with pytest.raises(BadInput, match="three: got 3"):
        run_on_workers(runner, [(fail_on_three, (number,), terms) for number in range(5)])


def time_out(number):
    if number == 1:
        raise TimeoutError(errno.ETIMEDOUT, "the folder is far away")


class TimedOut:
    """A part that ended with a time-out of its own; whoever asks again and again would do so for ever."""

    def __init__(self):
        self.asked = 0

    def result(self, timeout=None):
        self.asked += 1
        assert self.asked < 5
        raise TimeoutError(errno.ETIMEDOUT, "the folder is far away")

    def done(self):
        return True


def test_a_part_that_times_out_itself_is_not_waited_for():
    with pytest.raises(TimeoutError, match="the folder is far away"):
        wait_for(TimedOut())
    runner = Threads(kind="threads", num_workers=2)
    terms = make_terms(runner)
    with pytest.raises(TimeoutError, match="the folder is far away"):
        run_on_workers(runner, [(time_out, (number,), terms) for number in range(3)])


def test_a_part_that_ends_as_time_is_up_is_taken():
    class EndsInTime(TimedOut):
        def result(self, timeout=None):
            if timeout is not None:
                raise TimeoutError
            return 5, "here", 0.1

    assert wait_for(EndsInTime()).value == 5


def test_a_part_that_takes_long_is_waited_for():
    future = Future()
    Timer(2.5 * LOOK_EVERY_S, future.set_result, [(5, "here", 0.1)]).start()
    assert wait_for(future).value == 5


@pytest.mark.parametrize("ended", [True, False])
def test_parts_of_ray_and_of_prefect_say_whether_they_have_ended(ended):
    ray = SimpleNamespace(wait=lambda references, timeout: (references, []) if ended else ([], references))
    assert RayWaiting(ray, "part").done() is ended
    future = Future()
    if ended:
        future.set_exception(TimeoutError())
    waiting = PrefectWaiting(PrefectConcurrentFuture(uuid4(), future), methodcaller("done"))
    assert waiting.done() is ended
    assert PrefectWaiting(SimpleNamespace(wrapped_future="part"), partial(is_ready, ray)).done() is ended


@pytest.mark.lab
def test_threads_make_the_same_bytes(project, wanted):
    choose(project, "threads")
    result = project.run("-m", "flows.zoo", "z")
    assert result.returncode == 0, result.stderr
    assert f"{NUM_SHARDS} of {NUM_SHARDS} parts done" in result.stderr
    assert read_parts(project) == wanted


@pytest.mark.lab
@pytest.mark.parametrize("kind", KINDS)
def test_killed_worker_changes_no_byte(project, wanted, kind):
    choose(project, kind)
    stage = project.start("-m", "flows.zoo", "z")
    wait_for_shard(project, stage)
    started = psutil.Process(stage.pid).children(recursive=True)
    find_worker(stage).kill()
    out, err = stage.communicate(timeout=LIMIT_S)
    assert stage.returncode == 0, err
    assert any(words in out + err for words in ("a worker died", "A worker died", "Restarting worker")), err
    assert read_parts(project) == wanted
    assert wait_for_end(started) == []


@pytest.mark.lab
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("processes", signal.SIGTERM),
        ("processes", signal.SIGKILL),
        ("dask", signal.SIGKILL),
        pytest.param("ray", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_stage_that_is_ended_leaves_no_worker_and_what_it_finished(project, wanted, kind, number):
    choose(project, kind)
    stage = project.start("-m", "flows.zoo", "z")
    wait_for_shard(project, stage)
    started = psutil.Process(stage.pid).children(recursive=True)
    stage.send_signal(number)
    stage.communicate(timeout=LIMIT_S)
    assert wait_for_end(started) == []
    kept = {path.read_bytes() for path in (project.root / "data/.work/zoo/z").glob("[!.]*.parquet")}
    assert kept
    assert kept <= set(wanted.values())


def list_shards(server):
    """List the task runs of shards that have completed."""
    question = {"task_runs": {"name": {"like_": "make_shard"}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    request = urllib.request.Request(
        f"{server}/task_runs/filter", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    return ask_server(request)


@pytest.mark.lab
@pytest.mark.server
@pytest.mark.parametrize("kind", ["dask", RAY])
def test_server_that_observes_sees_each_shard(project, wanted, server, monkeypatch, kind):
    monkeypatch.setenv("PREFECT_API_URL", server)
    before = len(list_shards(server))
    choose(project, kind)
    result = project.run("-m", "flows.pipeline", "zoo@z")
    assert result.returncode == 0, result.stdout + result.stderr
    assert read_parts(project) == wanted
    for _ in range(100):  # the server notes task runs a little later
        if len(list_shards(server)) == before + NUM_SHARDS:
            return
        time.sleep(0.1)
    raise AssertionError(f"{len(list_shards(server)) - before} task runs of shards, wanted {NUM_SHARDS}")


@pytest.mark.slow
def test_the_quickstart_zoo_has_the_same_bytes_on_threads_on_dask_and_on_ray(tmp_path, monkeypatch):
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    project = Toy(tmp_path / "toy")
    project.root.mkdir()
    copy_code(project)
    project.write("params.yaml", (CHECKOUT / "params.yaml").read_text())
    assert project.run("-m", "flows.images", "digits").returncode == 0
    found = {}
    for kind in ("threads", "dask", "ray"):
        choose(project, kind)
        stage = project.start("-m", "flows.zoo", "digits")
        _, err = stage.communicate(timeout=LIMIT_S)
        assert stage.returncode == 0, err
        folder = project.root / "data/zoo/digits"
        found[kind] = {path.name: hash_file(path) for path in folder.glob("*.parquet")}
        for path in (folder, project.root / "data/.work/zoo/digits"):
            shutil.rmtree(path)
    assert len(found["threads"]) > 1
    assert found["threads"] == found["dask"] == found["ray"]
