"""Faults: kill a study at random moments, run it again, and count what was lost or wrong afterwards.

A small study runs once undisturbed. Then copies of it are run through either door and killed with SIGKILL, again and
again, until a run reaches its end. After each kill nothing may still run, whatever output can be read must be whole,
and finished shards must be kept; in the end all bytes must be those of the undisturbed run.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import psutil

from benchmarks.fault_project import DOORS, Project, copy_project, end_all_below
from benchmarks.fault_studies import STUDIES
from benchmarks.pipeline import CHECKOUT, REPRO
from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import exit_on_terminate
from flows.orchestration.server import start_server
from flows.orchestration.settings import apply_settings
from weightspace.config import BadInput
from weightspace.record import RECORD_NAME, hash_file, read_record

Victim = Literal["everything", "door", "dvc", "stage", "server"]
"""What is killed: all processes at once, the command that was called, DVC, the stage, or the Prefect server."""
VICTIMS: tuple[Victim, ...] = get_args(Victim)
WEIGHTS = {"pipeline": 3, "pipeline with own server": 1, "dvc": 3}
"""How often each door is taken; a server of its own takes longest to start."""
CUT_SHORT = ("RWLock-file", "dvc.lock")
"""Files that DVC writes in place. When one was cut short it says so and stops, and the pipeline mends it."""
LOOK_EVERY_S = 0.002
LATEST_S = 0.05
"""A kill that waits for a change on disk comes at most so much later."""
END_LIMIT_S = 60.0
RUN_LIMIT_S = 600.0


@dataclass(frozen=True)
class Kill:
    """What is killed, and when: after some seconds, or some time after a number of changes on disk."""

    victim: Victim
    changes: int
    seconds: float


NEVER = Kill("everything", sys.maxsize, RUN_LIMIT_S)


@dataclass(frozen=True)
class Span:
    """How long an undisturbed run takes."""

    changes: int
    """On disk, as far as they were seen."""
    seconds: float


@dataclass(frozen=True)
class Reference:
    """What undisturbed runs were like."""

    spans: dict[str, Span]
    """By door; no other door is taken."""
    wanted: dict[str, str]
    """Digest of every file that they left."""


def measure(kills: int = 100, study: str = "toy", seed: int = 0, minutes: int = 60, keep: str = "") -> dict[str, float]:
    """Kill so many times, or until the minutes are over, and print what came of it.

    Args:
        kills: how many.
        study: `real` for a small study of real stages, `toy` for stages that only write as real ones do.
        seed: decides what is killed when, as far as a busy machine lets it.
        minutes: no new copy of the study is begun later.
        keep: a folder for copies in which something went wrong; none if empty.
    """
    check_study(study)
    exit_on_terminate()
    deadline = time.monotonic() + 60 * minutes
    generator = random.Random(seed)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder) / "server") as server,
        end_all_below(Path(folder)),
    ):
        STUDIES[study](Path(folder) / "made")
        reference = run_reference(Path(folder) / "made", server, list(DOORS))
        while counts["kills"] < kills and time.monotonic() < deadline:
            project = copy_project(Path(folder) / "made", Path(folder) / "trial", server)
            counts += kill_until_done(project, reference, generator, kills - counts["kills"])
            check_end(project, reference.wanted)
            faults += project.faults
            if project.faults and keep:
                shutil.copytree(project.root, Path(keep) / f"{len(faults)}", symlinks=True)
            shutil.rmtree(project.root)
    for name, count in [*sorted(counts.items()), ("faults", len(faults))]:
        print(f"{name:<24} {count:6}")
    for fault in faults:
        print(f"fault: {fault}")
    return {"kills": counts["kills"], "faults": len(faults)}


def check_study(name: str) -> None:
    """Check that there is such a study.

    Raises:
        BadInput: there is not.
    """
    if name not in STUDIES:
        raise BadInput(f"--study: got {name}, wanted {' or '.join(STUDIES)}")


@contextlib.contextmanager
def run_server(home: Path) -> Iterator[str]:
    """Run a Prefect server with a database of its own; yields its address."""
    apply_settings(CHECKOUT)
    os.environ["PREFECT_HOME"] = str(home)
    os.environ.pop(API_URL, None)
    server = start_server()
    assert server is not None
    server.wait()
    try:
        yield server.url
    finally:
        server.stop()


def run_reference(source: Path, server: str, doors: list[str]) -> Reference:
    """Run a study undisturbed through each door, in copies beside it.

    Raises:
        RuntimeError: it failed, or the doors made different bytes.
    """
    spans: dict[str, Span] = {}
    made: list[dict[str, str]] = []
    for door in doors:
        project = copy_project(source, source.with_name(door), server)
        spans[door] = run_undisturbed(project, door)
        made.append(project.digest())
    if any(other != made[0] for other in made):
        raise RuntimeError(f"{', '.join(doors)}: they made different bytes undisturbed")
    return Reference(spans, made[0])


def run_undisturbed(project: Project, door: str) -> Span:
    """Run a study and see how long it takes.

    Raises:
        RuntimeError: it failed.
    """
    started = time.monotonic()
    process = project.start(door)
    changes = wait_for_changes(project, process, NEVER)
    if process.wait() != 0:
        raise RuntimeError(f"{door}: failed undisturbed: {(project.root / 'log').read_text()[-2000:]}")
    return Span(changes, time.monotonic() - started)


def kill_until_done(project: Project, reference: Reference, generator: random.Random, most: int) -> Counter[str]:
    """Run and kill until a run reaches its end, at the latest the one after so many kills; count the kills."""
    counts: Counter[str] = Counter(rounds=1)
    doors = sorted(reference.spans)
    while True:
        (door,) = generator.choices(doors, [WEIGHTS[door] for door in doors])
        kill = draw_kill(generator, reference.spans[door]) if counts["kills"] < most else NEVER
        before = project.list_work()
        process = project.start(door)
        wait_for_changes(project, process, kill)
        if process.poll() is not None:
            counts.update(finish(project, door, process.returncode))
            return counts
        victim = strike(project, process, kill.victim)
        counts.update({"kills": 1, f"kills of {victim}": 1})
        what = f"{door}, {victim}"
        check_ended(project, process, what)
        check_work(project, before, what)
        check_whole(project, reference.wanted, what)


def finish(project: Project, door: str, status: int) -> dict[str, int]:
    """Judge a run that was not killed; one that DVC refused for a file that was cut short is followed by a pipeline."""
    if status and DOORS[door] == REPRO and project.said(*CUT_SHORT):
        status = project.run("pipeline")
        counts = {"DVC's own file cut short": 1}
    else:
        counts = {}
    if status:
        last = (project.root / "log").read_text(errors="replace").strip().splitlines()[-1:]
        project.faults.append(f"{door}: a run that was not killed ended with status {status}: {last}")
    return counts


def draw_kill(generator: random.Random, span: Span) -> Kill:
    """Draw what to kill and when: half of the time anywhere, half of the time just after something changed on disk."""
    victim = generator.choice(VICTIMS)
    if generator.random() < 0.5:
        return Kill(victim, sys.maxsize, generator.uniform(0, span.seconds))
    return Kill(victim, generator.randint(1, span.changes), generator.uniform(0, LATEST_S))


def wait_for_changes(project: Project, process: subprocess.Popen[bytes], kill: Kill) -> int:
    """Wait for the moment of a kill or the end of the process; returns the changes seen."""
    deadline = time.monotonic() + (kill.seconds if kill.changes == sys.maxsize else RUN_LIMIT_S)
    last, changes = project.watch(), 0
    while process.poll() is None and time.monotonic() < deadline and changes < kill.changes:
        time.sleep(LOOK_EVERY_S)
        now = project.watch()
        changes, last = changes + (now != last), now
    if changes == kill.changes:
        time.sleep(kill.seconds)
    return changes


def strike(project: Project, process: subprocess.Popen[bytes], victim: Victim) -> Victim:
    """Kill a victim, or everything if it does not run now; returns what was killed, when all that it ended is gone."""
    running = project.list_running()
    chosen = [one for one in running if victim in ("everything", tell_role(one, process.pid))]
    if not chosen:
        victim, chosen = "everything", running
    for one in chosen:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    # DVC takes a process that init has not yet cleared away for one that holds its locks.
    psutil.wait_procs([one for one in chosen if one.pid != process.pid], END_LIMIT_S)
    return victim


def tell_role(process: psutil.Process, door: int) -> Victim | None:
    """Say what a process of the project is."""
    if process.pid == door:
        return "door"
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    if "flows.orchestration.server" in command:
        return "server"
    return "dvc" if "repro" in command else "stage"


def check_ended(project: Project, process: subprocess.Popen[bytes], what: str) -> None:
    """Check that nothing is left running, and wait for what ends by itself."""
    try:
        process.wait(RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        project.faults.append(f"{what}: the run did not end")
    deadline = time.monotonic() + END_LIMIT_S
    while (left := project.list_running()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in left:
        with contextlib.suppress(psutil.Error):
            project.faults.append(f"{what}: still running: {' '.join(one.cmdline())[:200]}")
            one.kill()


def check_work(project: Project, before: dict[str, tuple[int, int]], what: str) -> None:
    """Check that shards that were finished before a run are still the same files, until DVC has what they became."""
    after = project.list_work()
    again = [name for name in before if name in after and after[name] != before[name]]
    project.faults += [f"{what}: shard {name} was trained again" for name in again]
    if set(before) - set(after) and not is_committed(project.root, "zoo@"):
        project.faults.append(f"{what}: {len(set(before) - set(after))} finished shards were lost")


def check_whole(project: Project, wanted: dict[str, str], what: str) -> None:
    """Check that an output which its readers take for whole has the bytes of an undisturbed run."""
    for record in (project.root / "data").glob(f"[!.]*/[!.]*/{RECORD_NAME}"):
        try:
            files = [RECORD_NAME, *read_record(record.parent).files]
        except BadInput:
            continue
        paths = [record.parent / name for name in files]
        wrong = [path for path in paths if hash_file(path) != wanted.get(str(path.relative_to(project.root)))]
        project.faults += [
            f"{what}: {path.relative_to(project.root)}: taken for whole, has other bytes" for path in wrong
        ]


def is_committed(root: Path, stage: str) -> bool:
    """Say whether DVC knows what a stage made."""
    lock = root / "dvc.lock"
    return lock.is_file() and f"\n  {stage}" in lock.read_text()


def check_end(project: Project, wanted: dict[str, str]) -> None:
    """Check that a finished run left what an undisturbed one leaves, and that DVC agrees."""
    got = project.digest()
    project.faults += [f"{name}: other bytes" for name in wanted if name in got and got[name] != wanted[name]]
    project.faults += [f"{name}: missing" for name in sorted(set(wanted) - set(got))]
    project.faults += [f"{name}: left over" for name in sorted(set(got) - set(wanted))]
    leftovers = [path for path in (project.root / "data").glob("[!.]*/.*") if path.is_dir()]
    project.faults += [f"{path.relative_to(project.root)}: left over" for path in leftovers]
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"],
        cwd=project.root,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "up to date" not in status.stdout:
        project.faults.append(f"dvc status says {' '.join((status.stdout + status.stderr).split())[:300]}")
