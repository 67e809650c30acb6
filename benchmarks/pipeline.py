"""The quickstart study: how long it takes, how long when nothing changed, how much memory.

It runs in a copy of this checkout, which starts without outputs, cache or Prefect database, as a fresh clone does.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from flows.orchestration.processes import child_environment

CHECKOUT = Path(__file__).parents[1]
PIPELINE = ("-m", "flows.pipeline")
REPRO = ("-m", "dvc", "repro")
SAMPLE_EVERY_S = 0.2
OF_THE_USER = ("PREFECT_API_URL", "PREFECT_HOME", "DVC_ROOT", "DVC_STAGE")
"""Environment variables that would have the copy use something of the user's."""


def measure() -> dict[str, float]:
    """Measure every figure, and print a table of them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        copy_checkout(copy)
        run_s, peak = run_timed(copy, PIPELINE)
        noop_prefect_s, _ = run_timed(copy, PIPELINE)
        noop_dvc_s, _ = run_timed(copy, REPRO)
    figures = {
        "run_s": run_s,
        "noop_prefect_s": noop_prefect_s,
        "noop_dvc_s": noop_dvc_s,
        "peak_rss_gib": peak / 2**30,
    }
    print(f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB of memory")
    for name, value in figures.items():
        print(f"{name:16} {value:8.2f}")
    return figures


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


def run_timed(folder: Path, arguments: Sequence[str]) -> tuple[float, int]:
    """Run Python on some arguments; returns the seconds it took and the most memory all its processes had together.

    Memory that processes share counts for each.

    Raises:
        RuntimeError: it ended with a status other than 0.
    """
    environment = {name: value for name, value in child_environment().items() if name not in OF_THE_USER}
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
