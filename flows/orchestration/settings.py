"""Settings of Prefect and DVC that hold wherever a command was called from."""

import os
from pathlib import Path

from weightspace.config import BadInput

QUIET = {
    # Neither calls home.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    # What a run logs is kept by the server; the terminal belongs to the stages.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
SERVER = {
    # A first start migrates a new database, which two busy cores do not finish within the default 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # One write a task stalls SQLite after many tasks; one for many does not.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    # In whole seconds: Prefect cuts off the rest, and at 0 the server keeps a core busy.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # Who holds a GPU is known after the server was started anew, too.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


def find_checkout(folder: Path) -> Path:
    """Find the DVC repository that a folder lies in.

    Raises:
        BadInput: it lies in none.
    """
    start = folder.resolve()
    for candidate in (start, *start.parents):
        if (candidate / ".dvc").is_dir():
            return candidate
    raise BadInput(f"{folder}: no folder with .dvc there or above, wanted one inside a checkout of the project")


def apply_settings(folder: Path) -> None:
    """Set the environment for Prefect and DVC; what the user has set stays.

    Call it before Prefect is imported: Prefect reads its settings once, and those of `pyproject.toml` only when called
    from beside it.
    """
    home = find_checkout(folder) / ".prefect"
    for name, value in {**QUIET, **SERVER, "PREFECT_HOME": str(home)}.items():
        os.environ.setdefault(name, value)
