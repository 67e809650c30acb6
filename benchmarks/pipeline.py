"""The pipeline: the quickstart study, what Prefect adds to DVC, and how long it takes to find that nothing changed.

All runs in copies of this checkout, which start without outputs, cache or Prefect database, as a fresh clone does.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import child_environment
from flows.orchestration.server import find_free_port
from flows.params import PARAMS_NAME, STAGES, Study, read_study
from weightspace.config import BadInput

CHECKOUT = Path(__file__).parents[1]
PIPELINE = ("-m", "flows.pipeline")
REPRO = ("-m", "dvc", "repro")
SAMPLE_EVERY_S = 0.2
OF_THE_USER = ("PREFECT_API_URL", "PREFECT_HOME", "DVC_ROOT", "DVC_STAGE")
"""Environment variables that would have the copy use something of the user's."""
NUM_STAGES = 30
SERVE_PROGRAM = (
    "import sys, threading; from pathlib import Path; "
    "from flows.orchestration.settings import apply_settings; apply_settings(Path()); "
    "from flows.orchestration.processes import exit_on_terminate; exit_on_terminate(); "
    "from flows.orchestration.server import HOST, run_serving_server\n"
    "with run_serving_server(HOST, int(sys.argv[1])) as server:\n"
    "    print(server.url, flush=True)\n"
    "    threading.Event().wait()"
)


def measure(parts: str = "quickstart,overhead,noop30") -> dict[str, float]:
    """Measure every figure, and print a table of them.

    Args:
        parts: which, by name; overhead needs the quickstart, and runs it once more.

    Raises:
        BadInput: there is no such part.
    """
    wanted = parts.split(",")
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise BadInput(f"--parts: got {', '.join(unknown)}, wanted some of {','.join(PARTS)}")
    figures = {name: value for part in wanted for name, value in PARTS[part]().items()}
    if "run_s" in figures and "repro_s" in figures:
        figures["run_over_repro"] = figures["run_s"] / figures["repro_s"]
    print(f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB of memory")
    for name, value in figures.items():
        print(f"{name:22} {value:8.2f}")
    return figures


def measure_quickstart() -> dict[str, float]:
    """Measure the quickstart study through Prefect, and both doors when there is nothing to do."""
    with fresh_copy() as copy:
        run_s, peak = run_timed(copy, PIPELINE)
        noop_prefect_s, _ = run_timed(copy, PIPELINE)
        noop_dvc_s, _ = run_timed(copy, REPRO)
    return {
        "run_s": run_s,
        "noop_prefect_s": noop_prefect_s,
        "noop_dvc_s": noop_dvc_s,
        "peak_rss_gib": peak / 2**30,
    }


def measure_repro() -> dict[str, float]:
    """Measure the quickstart study through DVC alone, one stage after the other."""
    with fresh_copy() as copy:
        repro_s, _ = run_timed(copy, REPRO)
    return {"repro_s": repro_s}


def measure_noop30() -> dict[str, float]:
    """Measure how long it takes to find that none of 30 stages changed: with a server, without one, with DVC."""
    with fresh_copy() as copy:
        study = make_study_of_30(read_study(copy))
        (copy / PARAMS_NAME).write_text(json.dumps(study))
        # Through Prefect, as where nothing is left to do: its database is there when a server starts again.
        run_timed(copy, PIPELINE)
        embedded_s, _ = run_timed(copy, PIPELINE)
        dvc_s, _ = run_timed(copy, REPRO)
        with serving(copy) as url:
            server_s = min(run_timed(copy, PIPELINE, {API_URL: url})[0] for _ in range(2))
    return {
        "noop30_server_s": server_s,
        "noop30_embedded_s": embedded_s,
        "noop30_dvc_s": dvc_s,
        "noop30_server_over_dvc": server_s / dvc_s,
    }


def make_study_of_30(study: Study) -> dict[str, Any]:
    """Make a study of 30 stages that do little: image sets of few images, and a zoo of two members on each."""
    images, zoo = (next(iter(entries.values())).model_dump(mode="json") for entries in (study.images, study.zoo))
    images["split"] = {"kind": "counts", "train": 100, "val": 50, "test": 50, "seed": 0}
    zoo |= {"members": zoo["members"] | {"count": 2}, "epochs": 1, "engine": "torch"}
    names = [f"s{number}" for number in range(NUM_STAGES // 2)]
    empty = {stage: {} for stage in STAGES}
    return empty | {
        "root": ".",
        "images": dict.fromkeys(names, images),
        "zoo": {name: zoo | {"images": name} for name in names},
    }


@contextlib.contextmanager
def fresh_copy() -> Iterator[Path]:
    """Copy this checkout to where it stays for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        copy_checkout(copy)
        yield copy


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a Prefect server for as long as the block runs, in a process of its own; gives its address."""
    command = [sys.executable, "-c", SERVE_PROGRAM, str(find_free_port())]
    server = subprocess.Popen(command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        url = server.stdout.readline().strip()
        if not url:
            raise RuntimeError("the Prefect server did not start")
        yield url
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def copy_checkout(target: Path) -> None:
    """Copy the files that git tracks or would track, as they are now, outputs aside."""
    command = ["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (CHECKOUT / name).is_file() and not name.startswith("data/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, target / name, follow_symlinks=False)
    # The copy has no git; DVC wants to be told.
    (target / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")


def clean_environment() -> dict[str, str]:
    """Describe our environment without what would have a copy use something of the user's."""
    return {name: value for name, value in child_environment().items() if name not in OF_THE_USER}


def run_timed(folder: Path, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> tuple[float, int]:
    """Run Python on some arguments; returns the seconds it took and the most memory all its processes had together.

    Memory that processes share counts for each.

    Args:
        extra: environment variables to set.

    Raises:
        RuntimeError: it ended with a status other than 0.
    """
    environment = {**clean_environment(), **(extra or {})}
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, measure_memory(process.pid))
        time.sleep(SAMPLE_EVERY_S)
    seconds = time.monotonic() - started
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with status {process.returncode}")
    return seconds, peak


def measure_memory(pid: int) -> int:
    """Add up the resident memory, in bytes, of a process and of all that it started."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


PARTS = {"quickstart": measure_quickstart, "overhead": measure_repro, "noop30": measure_noop30}
