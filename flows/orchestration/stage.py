"""The door to one stage: `python -m flows.<stage> NAME`, by hand or by DVC."""

import json
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import PARENT
from flows.orchestration.processes import CODE, die_with_parent, exit_on_terminate
from flows.params import FOLDERS, PARAMS_NAME, Study, list_references, make_folders, read_study, suggest
from weightspace.config import BadInput, Config

logger = logging.getLogger(__name__)
Make = Callable[[str, Any, Path], None]
BAD_INPUT_STATUS = 2
EVERY_ENTRY = "."
"""What some keys say in place of a name; other stages may still be at work on some of these."""
DVC_STAGE = "DVC_STAGE"
"""Environment variable in which DVC names the stage that it runs."""


def run_stage(stage: str, make: Make, **others: Make) -> None:
    """Make the entry of a stage that the command line names, in the study of the working directory.

    Bad input ends it with one line and status 2. However it fails, the entry's earlier output stays or comes back.

    Args:
        others: what makes the entries of other sections whose outputs lie with those of this stage.
    """
    makers = {stage: make, **others}
    die_with_parent(PARENT)
    exit_on_terminate()
    show_log()
    try:
        with keep_outputs():
            name = read_name(stage, sys.argv[1:])
            study = read_study(Path())
            check_code(Path(study.root))
            section, config = find_entry(study, tuple(makers), name)
            make_folders(Path())
            drop_finished_work(Path(), config)
            with record_run(Path(), section, name):
                makers[section](name, config, Path())
    except BadInput as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(BAD_INPUT_STATUS)


def check_code(root: Path) -> None:
    """Refuse to run other code than DVC watches, which is that of the checkout of the study.

    Raises:
        BadInput: the code is another checkout's, or an installed one.
    """
    watched = root.resolve() / "weightspace"
    if watched.is_dir() and not watched.samefile(CODE / "weightspace"):
        raise BadInput(
            f"{PARAMS_NAME}: root: got {root}, so DVC watches the code in {watched.parent}, but that in {CODE} runs, "
            f"wanted the same: PYTHONPATH={watched.parent}"
        )


def drop_work(root: Path, stage: str, name: str) -> None:
    """Remove what an entry keeps for the case that it is killed.

    Only when DVC has its output: it removes one that it does not know before it runs the stage again.
    """
    # It lies as its output does: what twins keep with what zoos keep.
    shutil.rmtree(root / "data" / ".work" / FOLDERS.get(stage, stage) / name, ignore_errors=True)


def drop_finished_work(root: Path, config: Config) -> None:
    """Remove what inputs kept: that DVC runs what depends on them means that it has them."""
    if DVC_STAGE in os.environ:
        for stage, _, name in list_references(config):
            if name != EVERY_ENTRY:
                drop_work(root, stage, name)


def read_name(stage: str, arguments: list[str]) -> str:
    """Take the entry's name from the command line.

    Raises:
        BadInput: there is not exactly one.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        given = " ".join(arguments) or "nothing"
        raise BadInput(f"python -m flows.{stage}: got {given}, wanted the name of one entry of {stage}")
    return arguments[0]


def find_entry(study: Study, sections: Sequence[str], name: str) -> tuple[str, Any]:
    """Find the section and configuration of one entry.

    Raises:
        BadInput: none of the sections has such an entry.
    """
    for section in sections:
        if name in getattr(study, section):
            return section, getattr(study, section)[name]
    known = [entry for section in sections for entry in getattr(study, section)]
    raise BadInput(f"{PARAMS_NAME}: {sections[0]}: got {name!r}, wanted {suggest(name, known)}")


def show_log() -> None:
    """Send what our code logs to standard error, one readable line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for package in ("flows", "tasks", "weightspace"):
        logging.getLogger(package).setLevel(logging.INFO)
        logging.getLogger(package).addHandler(handler)


@contextmanager
def keep_outputs() -> Iterator[None]:
    """Bring back the earlier outputs of the stage that DVC runs, if the block does not end well."""
    ended_well = False
    try:
        yield
        ended_well = True
    finally:
        if not ended_well and DVC_STAGE in os.environ:
            # Imported late: importing DVC takes longer than some stages.
            from flows.orchestration.graph import DvcException, restore_outputs

            try:
                restore_outputs(os.environ[DVC_STAGE])
            except DvcException as error:
                # What ended the stage matters more, and must stay the last word.
                logger.warning("earlier outputs could not be brought back, `dvc checkout` may: %s", error)


@contextmanager
def record_run(root: Path, stage: str, name: str) -> Iterator[None]:
    """Note when, where and how long a stage ran, outside its output, which stays the same from run to run."""
    started, clock = datetime.now(UTC), time.monotonic()
    yield
    seconds = time.monotonic() - clock
    peak_kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    note = {
        "stage": stage,
        "name": name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "peak_rss_bytes": peak_kib * 1024,
        "host": platform.node(),
        "commit": read_commit(root),
        "device": read_device(root / "data" / FOLDERS.get(stage, stage) / name / "_record.json"),
    }
    path = root / "data" / ".work" / "runs" / stage / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note, indent=1) + "\n")
    logger.info("done in %.1f s, at most %.2f GiB of memory", seconds, peak_kib / 2**20)


def read_commit(root: Path) -> str | None:
    """Name the commit that is checked out, with `-dirty` if the code differs; None outside git."""
    command = ["git", "-C", str(root.resolve()), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_device(record: Path) -> str | None:
    """Read from an output's record which kind of device computed it."""
    return json.loads(record.read_text())["device"] if record.is_file() else None
