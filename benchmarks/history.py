"""Keep every run of the benchmarks: one small Parquet file a run, read back as one table.

A run is written under another name and then renamed, so that it is there whole or not at all, whatever else writes at
the same time. Nothing that is there is ever opened for writing, since DVC may have linked it to its cache.
"""

import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.figures import FIGURES
from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.report.read import pick
from weightspace.store import name_part_errors

RUNS = "runs"
"""Folder of the history that holds the runs."""
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("suite", pa.string(), nullable=False),
        pa.field("commit", pa.string()),
        pa.field("dirty", pa.bool_()),
        pa.field("cores", pa.int32(), nullable=False),
        pa.field("cpu", pa.string(), nullable=False),
        pa.field("memory_gib", pa.int32(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("figure", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)
"""One row a figure and run. `commit` and `dirty` are null outside a checkout, `low` and `high` where a figure has no
interval; `seconds` is how long the benchmark took that gave the figure."""


@dataclass(frozen=True)
class Machine:
    """The class of a machine: runs on machines of one class are compared."""

    cores: int
    cpu: str
    memory_gib: int
    device: str

    def __str__(self) -> str:
        return f"{self.cores} cores ({self.cpu}), {self.memory_gib} GiB, {self.device}"


@dataclass(frozen=True)
class Measured:
    """One figure as a run measured it."""

    value: float
    low: float | None = None
    high: float | None = None
    seconds: float = 0.0
    """How long its benchmark took."""


@dataclass(frozen=True)
class Run:
    """One run of a suite."""

    name: str
    time: datetime
    suite: str
    commit: str | None
    dirty: bool | None
    machine: Machine
    figures: Mapping[str, Measured]


def describe_machine() -> Machine:
    """Say on what kind of machine we run; `device` is the GPU that benchmarks would find, or cpu."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = torch.cuda.get_device_name() if resolve_device("auto").type == "cuda" else "cpu"
    return Machine(cores, name_processor(), round(psutil.virtual_memory().total / 2**30), device)


def name_processor() -> str:
    """Name the model of the processor, as Linux tells it, or else as Python does, and the vectors it computes with.

    One model's name may stand for processors with vectors of different widths, which train at different rates.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def describe_code(checkout: Path) -> tuple[str | None, bool | None]:
    """Say which commit the code is, and whether it was changed since; outputs below `data` do not count.

    Returns:
        None twice where the folder is not the top of a git checkout.
    """
    try:
        if ask_git(checkout, "rev-parse", "--show-prefix"):
            return None, None
        status = ask_git(checkout, "status", "--porcelain", "--", ".", ":(exclude)data")
        return ask_git(checkout, "rev-parse", "HEAD"), bool(status)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None, None


def ask_git(checkout: Path, *words: str) -> str:
    """Ask git something about a checkout."""
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_run(suite: str, checkout: Path, machine: Machine, figures: Mapping[str, Measured]) -> Run:
    """Give a run its name, time and code; names sort by time, and no two are the same."""
    now = datetime.now(UTC)
    commit, dirty = describe_code(checkout)
    return Run(f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}", now, suite, commit, dirty, machine, figures)


def tabulate_run(run: Run) -> pa.Table:
    """Lay a run out as rows of the history."""
    same = {
        "run": run.name,
        "time": run.time,
        "suite": run.suite,
        "commit": run.commit,
        "dirty": run.dirty,
        **asdict(run.machine),
    }
    rows = [
        {**same, "figure": name, "kind": FIGURES[name].kind, **asdict(measured)}
        for name, measured in run.figures.items()
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def write_run(history: Path, run: Run) -> Path:
    """Add a run to the history."""
    folder = history / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(tabulate_run(run), sink, compression="zstd")
    write_whole(path := folder / f"{run.name}.parquet", sink.getvalue().to_pybytes())
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; until then it lies hidden in the history's folder."""
    home = path.parent.parent if path.parent.name == RUNS else path.parent  # DVC keeps all that is in RUNS
    partial = home / f".{path.name}.{os.getpid()}.partial"
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_history(history: Path) -> pd.DataFrame:
    """Read all runs, oldest first; none where there is no history yet.

    Raises:
        BadInput: the history is no folder, or a run in it cannot be read or has other columns.
    """
    if history.exists() and not history.is_dir():
        raise BadInput(f"--history: got {history}, which is a file, wanted a folder")
    tables = [SCHEMA.empty_table()]
    for path in sorted((history / RUNS).glob("*.parquet")):
        with name_part_errors(path):
            table = pq.read_table(path)
        if table.schema != SCHEMA:
            wanted = ", ".join(SCHEMA.names)
            raise BadInput(f"{path}: has the columns {', '.join(table.schema.names)}, wanted a run with {wanted}")
        tables.append(table)
    return pa.concat_tables(tables).to_pandas().sort_values(["time", "run"], kind="stable", ignore_index=True)


def select_comparable(runs: pd.DataFrame, machine: Machine, suite: str) -> pd.DataFrame:
    """Keep the runs of one suite on machines of one class."""
    return pick(runs, suite=suite, **asdict(machine))
