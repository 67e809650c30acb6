import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.history import (
    RUNS,
    SCHEMA,
    Measured,
    describe_code,
    describe_machine,
    read_history,
    select_comparable,
    write_run,
)
from benchmarks.pipeline import CHECKOUT
from tests.benchmarks.made_up import LAPTOP, SCIENCE, SPEED, TIME, make_up_run
from weightspace.config import BadInput


def test_what_is_written_is_read_back_oldest_first(tmp_path):
    for number in (2, 1):
        write_run(tmp_path, make_up_run(number, {SPEED: 10.0 + number, SCIENCE: Measured(0.5, 0.4, 0.6, 3.0)}))
    found = read_history(tmp_path)
    assert list(found.columns) == SCHEMA.names
    assert list(found["figure"]) == [SPEED, SCIENCE] * 2
    assert list(found["value"]) == [11.0, 0.5, 12.0, 0.5]
    assert list(found["kind"]) == ["ratio", "science"] * 2
    assert found["low"].isna().tolist() == [True, False] * 2
    assert found[found["figure"] == SCIENCE][["low", "high", "seconds"]].drop_duplicates().values.tolist() == [
        [0.4, 0.6, 3.0]
    ]


def test_a_history_is_plain_parquet(tmp_path):
    write_run(tmp_path, make_up_run(1, {SPEED: 10.0}))
    row = pd.read_parquet(tmp_path / RUNS).iloc[0]
    assert (row["figure"], row["value"], row["cpu"], row["cores"]) == (SPEED, 10.0, LAPTOP.cpu, LAPTOP.cores)


def test_no_history_yet_is_an_empty_one(tmp_path):
    assert len(read_history(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    "other",
    [{"cores": 4}, {"cpu": "Another CPU"}, {"memory_gib": 16}, {"device": "NVIDIA H100"}],
    ids=lambda other: next(iter(other)),
)
def test_another_class_of_machine_is_not_compared(tmp_path, other):
    write_run(tmp_path, make_up_run(1, {SPEED: 10.0}, replace(LAPTOP, **other)))
    write_run(tmp_path, make_up_run(2, {SPEED: 11.0}))
    write_run(tmp_path, make_up_run(3, {SPEED: 12.0}, suite="full"))
    assert list(select_comparable(read_history(tmp_path), LAPTOP, "quick")["value"]) == [11.0]


def test_runs_written_at_the_same_time_are_all_kept(tmp_path):
    runs = [make_up_run(number, {SPEED: float(number)}) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: write_run(tmp_path, run), runs))
    assert list(read_history(tmp_path)["value"]) == list(range(20))


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks import history
from tests.benchmarks.made_up import SPEED, make_up_run
history.os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)  # all is written, and nothing renamed
history.write_run(Path(sys.argv[1]), make_up_run(2, {SPEED: 11.0}))
"""


def test_a_kill_while_a_run_is_written_leaves_the_history_whole(tmp_path):
    write_run(tmp_path, make_up_run(1, {SPEED: 10.0}))
    before = sorted((tmp_path / RUNS).iterdir())
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=CHECKOUT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted((tmp_path / RUNS).iterdir()) == before, "what DVC keeps holds something unfinished"
    assert list(read_history(tmp_path)["value"]) == [10.0]
    write_run(tmp_path, make_up_run(3, {SPEED: 12.0}))
    assert list(read_history(tmp_path)["value"]) == [10.0, 12.0]


def test_a_damaged_run_is_named(tmp_path):
    path = write_run(tmp_path, make_up_run(1, {SPEED: 10.0}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=path.name):
        read_history(tmp_path)


def test_a_table_that_is_no_run_is_named(tmp_path):
    (tmp_path / RUNS).mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(path := tmp_path / RUNS / "other.parquet")
    with pytest.raises(BadInput, match=f"{path}: has the columns a, wanted a run with run, time"):
        read_history(tmp_path)


def test_a_history_that_is_a_file_is_refused(tmp_path):
    (path := tmp_path / "file").touch()
    with pytest.raises(BadInput, match="which is a file, wanted a folder"):
        read_history(path)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=n@localhost")
    return subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True).stdout


def test_code_is_that_of_the_commit_or_changed_and_outputs_are_no_code(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/metrics.json").touch()
    assert describe_code(tmp_path) == (commit, False)
    (tmp_path / "code.py").write_text("a = 2\n")
    assert describe_code(tmp_path) == (commit, True)
    assert describe_code(tmp_path / "data") == (None, None), "a folder inside another project's checkout"


def test_code_without_git_has_no_commit(tmp_path):
    assert describe_code(tmp_path) == (None, None)


def test_this_machine_is_described_the_same_each_time():
    machine = describe_machine()
    assert machine == describe_machine()
    assert machine.cpu.endswith(f", {torch.backends.cpu.get_cpu_capability()}")
    assert machine.cores >= 1
    assert machine.cpu
    assert machine.memory_gib >= 1
    assert machine.device


def test_processors_of_one_name_with_other_vectors_are_other_machines(monkeypatch):
    machines = set()
    for vectors in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda vectors=vectors: vectors)
        machines.add(describe_machine())
    assert len(machines) == 2
    assert "AVX2)" in " ".join(map(str, machines))


def test_seconds_of_a_benchmark_stand_beside_its_figures(tmp_path):
    write_run(tmp_path, make_up_run(1, {TIME: Measured(2.0, seconds=60.0)}))
    assert list(read_history(tmp_path)["seconds"]) == [60.0]
