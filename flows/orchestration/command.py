"""The command line of `python -m flows.pipeline`."""

import contextlib
import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.orchestration.forms import MOST_AT_ONCE, MOST_HOURS
from flows.orchestration.processes import exit_on_terminate, note_interrupt
from flows.orchestration.selection import check_stages
from flows.orchestration.server import start_server
from flows.orchestration.settings import apply_settings
from flows.params import read_study
from weightspace.config import BadInput

INTERRUPTED_STATUS = 130

Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Stages to bring up to date with all they need: zoo, zoo@digits. All if none."),
]
Force = Annotated[
    list[str] | None, typer.Option(help="Run this stage even if nothing changed: zoo, zoo@digits. May be repeated.")
]
StudyFolder = Annotated[Path, typer.Option("--study", help="Folder with the study's params.yaml.")]
AtOnce = Annotated[int, typer.Option(min=1, max=MOST_AT_ONCE, help="Stages that may run side by side.")]
TimeoutH = Annotated[float, typer.Option(help="Hours after which the run is ended; what was finished is kept.")]


def run_command(
    targets: Targets = None,
    force: Force = None,
    study: StudyFolder = Path(),
    at_once: AtOnce = 2,
    timeout_h: TimeoutH = 168.0,
) -> None:
    """Bring a study up to date: run the stages whose code, inputs or parameters changed, and show them in Prefect."""
    try:
        with contextlib.chdir(check_folder(study)):
            read = read_study(Path())
            apply_settings(Path())
        check_stages(read, [*(targets or []), *(force or [])])
        check_hours(timeout_h)
        status = run_pipeline(targets or [], force or [], study, at_once, timeout_h)
    except BadInput as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED_STATUS
    gc.freeze()  # else Python, as it ends, looks for garbage in all that there is
    sys.exit(status)


def check_folder(folder: Path) -> Path:
    """Check that a study's folder is there.

    Raises:
        BadInput: it is not.
    """
    if not folder.is_dir():
        raise BadInput(f"--study: got {str(folder)!r}, wanted a folder with a params.yaml")
    return folder


def check_hours(hours: float) -> None:
    """Check how long a run may take.

    Raises:
        BadInput: that is no time to run in.
    """
    if not 0 < hours <= MOST_HOURS:
        raise BadInput(f"--timeout-h: got {hours:g}, wanted more than 0 and at most {MOST_HOURS:g} hours")


def run_pipeline(targets: list[str], force: list[str], study: Path, at_once: int, timeout_h: float) -> int:
    """Run the flow, on a server of our own unless the user has one; returns the exit status."""
    exit_on_terminate()
    note_interrupt()
    server = start_server()
    # Importing Prefect and DVC takes as long as the server does to start, so they do it side by side.
    from flows.orchestration.graph import read_graph
    from flows.orchestration.runner import StageFailed
    from flows.orchestration.study_run import RunTimeout
    from flows.pipeline import pipeline

    gc.freeze()
    gc.enable()
    if server:
        # While it starts, what stops the run is found without a flow run; with a server that is there, the flow tells.
        with contextlib.chdir(study):
            read_graph()
        server.wait()
    try:
        pipeline(targets, force, str(study), at_once, timeout_h)
    except RunTimeout as timeout:
        print(f"error: {timeout}", file=sys.stderr)
        return 1
    except StageFailed as failure:
        print(f"error: {failure.name}: {failure.reason}", file=sys.stderr)
        return failure.exit_status
    return 0


def main() -> None:
    """Read the command line and run what it asks for."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(run_command)
    app(prog_name="python -m flows.pipeline")
