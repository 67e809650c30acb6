"""Bring one stage up to date: ask DVC whether it changed, and if so let `dvc repro` run it."""

import contextlib
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flows.orchestration.graph import Busy, DvcException, Out, is_changed, list_outs, restore_outputs
from flows.orchestration.processes import Children, Source, child_environment
from flows.orchestration.stage import BAD_INPUT_STATUS, drop_work

How = Literal["ran", "restored", "skipped"]
Show = Callable[[str], None]
"""Takes a line that a stage says."""

DVC_PROGRAM = ("-m", "flows.orchestration.dvc_child")
# What DVC says, by which we know what it did; a test pins it for the version in use.
RUNNING = "Running stage '"
RESTORED = "is cached - skipping run"
SKIPPED = "didn't change, skipping"
BUSY = ("is busy, it is being blocked by", "Unable to acquire lock")
FAILED = "ERROR: failed to reproduce"
EXITED = re.compile(r"exited with (-?\d+)")
TAIL_LINES = 30
KILLS_FORGIVEN = 2
"""So often a stage that something else killed, such as a machine out of memory, is worth going on with in one run."""


@dataclass(frozen=True)
class StageRun:
    """What was done about one stage."""

    name: str
    how: How
    """`ran`; `restored` from an earlier run with the same inputs; `skipped` since nothing changed."""
    seconds: float
    """How long it took, without what it waited for others."""
    outs: list[Out]


class StageFailed(Exception):
    """A stage did not end well; its last lines say why."""

    may_go_on = False
    """Whether to try again is worth it: it was killed, and what it has finished is kept."""

    def __init__(self, name: str, status: int, seconds: float, lines: list[str]) -> None:
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        self.name, self.status, self.seconds = name, status, seconds
        if status < 0:
            errors = [f"killed by {signal.Signals(-status).name}; what it has finished is kept, run it again to go on"]
        self.reason = (errors or lines or ["it said nothing"])[-1]
        super().__init__(f"{name} ended with status {status}: {self.reason}")

    @property
    def exit_status(self) -> int:
        """Status for our own exit: 2 if the user gave something wrong, else 1."""
        return BAD_INPUT_STATUS if self.status == BAD_INPUT_STATUS else 1


@dataclass
class Heard:
    """What a DVC process and the stage in it said."""

    said: set[How | Literal["busy"]] = field(default_factory=set)
    tail: list[str] = field(default_factory=list)
    status: int | None = None

    def hear(self, source: Source, line: str) -> bool:
        """Note one line; says whether it is one that the stage logged."""
        if line.startswith(RUNNING):
            self.said.add("ran")
        elif RESTORED in line:
            self.said.add("restored")
        elif SKIPPED in line:
            self.said.add("skipped")
        elif any(words in line for words in BUSY):
            self.said.add("busy")
        elif line.startswith(FAILED):
            found = EXITED.search(line)
            self.status = int(found[1]) if found else None
            # Without a status it was not the stage that failed, and what DVC says is the reason.
            self.tail += [] if found else [line.removeprefix(FAILED).lstrip()]
        elif source == "err" and line:
            self.tail = [*self.tail[1 - TAIL_LINES :], line]
            return True
        return False


class StageRunner:
    """Brings stages up to date, a few at a time; ends what it started when the block ends."""

    def __init__(self, at_once: int) -> None:
        self.children = Children()
        self.slots = threading.BoundedSemaphore(at_once)
        self.kills: Counter[str] = Counter()

    def __enter__(self) -> "StageRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.children.stop()

    def bring_up_to_date(
        self,
        name: str,
        force: bool,
        environment: dict[str, str],
        show: Show,
        hold: contextlib.AbstractContextManager[None] | None = None,
    ) -> StageRun:
        """Run a stage if it changed or is forced.

        Args:
            hold: what the stage needs for itself while it runs.

        Raises:
            Busy: another DVC process is at it; try again later.
            StageFailed: it did not end well.
        """
        started = time.monotonic()
        how: How = "skipped"
        try:
            if force or is_changed(name):
                # What may have to be waited for comes first, so that others run meanwhile.
                with hold or contextlib.nullcontext(), self.slots:
                    started = time.monotonic()
                    how = self.reproduce(name, force, environment, show)
            return StageRun(name, how, time.monotonic() - started, list_outs(name))
        except DvcException as error:
            raise StageFailed(
                name, 1, time.monotonic() - started, [f"error: {' '.join(str(error).split())}"]
            ) from error

    def reproduce(self, name: str, force: bool, environment: dict[str, str], show: Show) -> How:
        """Let DVC run one stage, lock what it touches, hash what it makes, and note it in `dvc.lock`."""
        started = time.monotonic()
        heard = Heard()

        def on_line(source: Source, line: str) -> None:
            if heard.hear(source, line):
                show(line)

        command = [sys.executable, *DVC_PROGRAM, "--wait-for-lock", "repro", "--single-item", name]
        status = self.children.run(command + (["--force"] if force else []), child_environment(**environment), on_line)
        if status == 0:
            drop_work(Path(), *name.split("@"))
            return classify(name, heard)
        if "busy" in heard.said and "ran" not in heard.said:
            raise Busy(f"{name}: another DVC process is at it")
        # The stage does so itself, unless it was killed.
        restore_outputs(name)
        failure = StageFailed(name, heard.status or status, time.monotonic() - started, heard.tail)
        self.kills[name] += failure.status == -signal.SIGKILL
        failure.may_go_on = failure.status == -signal.SIGKILL and self.kills[name] <= KILLS_FORGIVEN
        raise failure


def classify(name: str, heard: Heard) -> How:
    """Say what DVC did, from what it said."""
    order: tuple[How, ...] = ("ran", "restored", "skipped")
    for how in order:
        if how in heard.said:
            return how
    raise RuntimeError(f"{name}: cannot tell what DVC did from what it said: {heard.tail}")
