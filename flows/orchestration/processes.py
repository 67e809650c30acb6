"""Start processes that cannot outlive this one, hear what they say, and end them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal

Source = Literal["out", "err"]
OnLine = Callable[[Source, str], None]

CODE = Path(__file__).parents[2]
"""Folder of the packages that run."""
PR_SET_PDEATHSIG = 1
GRACE_S = 20.0
"""Time a process has to put things in order before it is killed."""
reasons: list[BaseException] = []
"""What signals that asked this process to end have raised."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends, even when that one is killed. Linux only.

    Args:
        parent: who that was when this process started; if it is gone by now, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def exit_on_terminate() -> None:
    """Leave by `SystemExit` on SIGTERM, so that what is open is closed and what was begun is undone."""

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        reasons.append(SystemExit(128 + number))
        raise reasons[-1]

    signal.signal(signal.SIGTERM, leave)


def note_interrupt() -> None:
    """Keep in mind that SIGINT came, besides raising `KeyboardInterrupt`."""

    def interrupt(*_: object) -> None:
        reasons.append(KeyboardInterrupt())
        raise reasons[-1]

    signal.signal(signal.SIGINT, interrupt)


def check_signals() -> None:
    """Leave if a signal asked for it; call it where the main thread waits.

    What a handler raises is lost if it happens to hit code that must not fail, such as a finaliser.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: SIGTERM came.
    """
    if reasons:
        raise reasons[0]


def child_environment(**extra: str) -> dict[str, str]:
    """Describe the environment of a child: its `python` and its code are those that run us, wherever it works."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    modules = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, **extra}


class Children:
    """Processes in sessions of their own, which end when they are done, or all when the block ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[int] = set()
        self.stopping = False

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(
        self, command: Sequence[str], environment: dict[str, str], on_line: OnLine, folder: Path | None = None
    ) -> int:
        """Run a command to its end, handing on each line as it comes; returns its exit status.

        Args:
            folder: where; None for the working directory.

        Raises:
            InterruptedError: we are stopping already.
        """
        with self.lock:
            if self.stopping:
                raise InterruptedError("stopping")
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self.running.add(process.pid)
        assert process.stdout
        assert process.stderr
        reader = threading.Thread(target=read_lines, args=("err", process.stderr, on_line), daemon=True)
        try:
            reader.start()
            read_lines("out", process.stdout, on_line)
            reader.join()
            return process.wait()
        finally:
            with self.lock:
                self.running.discard(process.pid)

    def stop(self) -> None:
        """End every process with all it has started; they get a while to put things in order."""
        with self.lock:
            self.stopping = True
        self.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self.running and time.monotonic() < deadline:
            time.sleep(0.05)
        self.signal_all(signal.SIGKILL)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the group of every process that still runs."""
        with self.lock:
            for group in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)


def read_lines(source: Source, stream: IO[str], on_line: OnLine) -> None:
    """Hand on every line of a stream until it closes."""
    with stream:
        for line in stream:
            on_line(source, line.rstrip())
