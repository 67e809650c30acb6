"""Run the benchmarks in a checkout of its own, which shares DVC's cache with ours.

Nobody's working parameters are touched, nobody's work in progress is measured, and what is in the cache is not
computed again. Objects of git and DVC are shared, not copied, so that such a checkout is small.
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TypedDict

from flows.orchestration.graph import find_cache
from flows.orchestration.processes import Children, Source, child_environment
from flows.orchestration.runner import Show
from flows.orchestration.settings import QUIET
from weightspace.config import BadInput

WORSE_STATUS = 3
"""Exit status of `python -m benchmarks rerun` when something got worse."""
MODULE_PROGRAM = (
    "import runpy, sys; from flows import PARENT; from flows.orchestration.processes import die_with_parent; "
    "die_with_parent(PARENT); "
    "sys.argv[:] = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
RESULT_NAME = "rerun.json"
TAIL_LINES = 5
OF_A_RUN = ("PREFECT", "WEIGHTSPACE", "DVC_ROOT", "DVC_STAGE")
"""What the names of environment variables start with by which the benchmarks would take part in our own run."""


class Verdict(TypedDict):
    """What is thought of one figure."""

    figure: str
    value: float
    reference: float | None
    tolerance: float | None
    verdict: str


class Measured(TypedDict):
    """What a rerun found."""

    figures: dict[str, float]
    verdicts: list[Verdict]
    worse: list[str]


class GotWorse(Exception):
    """Some figures are worse than they were."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"got worse: {', '.join(names)}")


class MeasuringFailed(Exception):
    """The benchmarks did not end well."""


def prepare_checkout(ours: Path, folder: Path, revision: str) -> str:
    """Make a folder a clean checkout of a commit of ours, with our DVC cache; returns the commit's hash.

    Raises:
        BadInput: no such commit, we are no git repository, or the folder holds something else.
    """
    commit = find_commit(ours, revision)
    if not (folder / ".git").is_dir():
        if folder.exists() and any(folder.iterdir()):
            raise BadInput(f"home: {folder} holds something that is no checkout, wanted an empty or a new folder")
        run_git(ours, "clone", "--quiet", "--shared", "--no-checkout", str(ours), str(folder))
    run_git(folder, "checkout", "--quiet", "--force", "--detach", commit)
    # What git ignores stays: outputs, which DVC knows.
    run_git(folder, "clean", "--quiet", "-d", "--force")
    write_config(folder, find_cache(ours))
    return commit


def find_commit(checkout: Path, revision: str) -> str:
    """Find the hash of a commit.

    Raises:
        BadInput: there is none, or the checkout is no git repository.
    """
    try:
        return run_git(
            checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
    except subprocess.CalledProcessError as error:
        raise BadInput(f"revision: got {revision!r}, wanted a commit of a git repository in {checkout}") from error


def run_git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns what it says.

    Raises:
        CalledProcessError: it failed.
    """
    # Variables such as GIT_DIR, which git sets for hooks, would lead elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def write_config(folder: Path, cache: Path) -> None:
    """Have DVC in a checkout use a cache, without a change to what is committed."""
    (folder / ".dvc" / "config.local").write_text(f'[cache]\n    dir = "{cache}"\n', encoding="utf-8")


def measure(folder: Path, suite: str, history: Path, limit_s: float, show: Show) -> Measured:
    """Run the benchmarks of a suite in a checkout, and add what they find to a history.

    Args:
        show: takes each line that they say.

    Raises:
        MeasuringFailed: they did not end well.
        TimeoutError: they took too long.
    """
    history.mkdir(parents=True, exist_ok=True)
    result = history / RESULT_NAME
    result.unlink(missing_ok=True)
    command = ["benchmarks", "rerun", "--suite", suite, "--history", str(history), "--json", str(result)]
    status, tail = run_module(folder, command, limit_s, show)
    if status not in (0, WORSE_STATUS) or not result.is_file():
        raise MeasuringFailed(f"python -m {' '.join(command)} ended with status {status}: {' / '.join(tail)}")
    return json.loads(result.read_text(encoding="utf-8"))


def run_module(folder: Path, arguments: list[str], limit_s: float, show: Show) -> tuple[int, list[str]]:
    """Run a module of a checkout to its end; returns its exit status and its last lines.

    Raises:
        TimeoutError: it took too long, and was ended.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def on_line(_: Source, line: str) -> None:
        tail.append(line)
        show(line)

    # Stages find the code of this checkout first, in studies/ too.
    inherited = {name: value for name, value in child_environment().items() if not name.startswith(OF_A_RUN)}
    environment = {**inherited, **QUIET, "PYTHONPATH": str(folder)}
    with Children() as children:
        timer = threading.Timer(limit_s, children.stop)
        timer.start()
        try:
            status = children.run([sys.executable, "-c", MODULE_PROGRAM, *arguments], environment, on_line, folder)
        finally:
            timer.cancel()
        if children.stopping:
            raise TimeoutError(f"{' '.join(arguments)} took longer than {limit_s / 3600:g} hours and was ended")
    return status, list(tail)
