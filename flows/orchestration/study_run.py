"""Bring a study up to date inside a flow run: each stage is a task of it.

The graph is DVC's. Whether a stage has to run, its locks, its hashes and `dvc.lock` are DVC's too, so that `dvc repro`
finds nothing left to do afterwards, and the other way round.
"""

import contextlib
import fcntl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect import get_client, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.orchestration.artifacts import Progress, keep_report, keep_tables
from flows.orchestration.forms import name_study
from flows.orchestration.gpus import hold_gpus, list_gpus
from flows.orchestration.graph import Busy, Graph, Out, Part, survey
from flows.orchestration.nesting import describe_run
from flows.orchestration.processes import check_signals
from flows.orchestration.runner import StageFailed, StageRun, StageRunner
from flows.orchestration.selection import add_needed, check_stages, select_stages
from flows.orchestration.settings import find_checkout
from flows.params import Study, make_folders, read_study
from weightspace.config import BadInput, Config

RETRY_PAUSE_S = 5
LOOK_EVERY_S = 1.0
RETRIES = 12 * 3600 // RETRY_PAUSE_S
NOT_RUN = "not run"
FAILED = "failed"
Outcome = StageRun | StageFailed | None
"""None for a stage that was not reached."""

# A thread that waits costs nothing; how many stages run at once is up to the stage runner.
TASK_RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=100))


@dataclass(frozen=True)
class Wish:
    """What a run is asked for."""

    targets: Sequence[str]
    """`zoo` for all zoos, `zoo@digits` for one; empty for everything."""
    force: Sequence[str]
    """The same, for stages that run even if nothing changed."""
    study: str
    """Folder with `params.yaml`, relative to the working directory."""
    at_once: int
    """Stages that may run side by side."""
    timeout_h: float
    """After so many hours the run is ended; what was finished is kept."""


class RunTimeout(TimeoutError):
    """A run took longer than it may."""


def fulfil(wish: Wish) -> list[StageRun]:
    """Bring a study up to date, independent stages side by side; call it in a flow run.

    Raises:
        BadInput: no such study or stage, or its parameters are wrong.
        RunTimeout: it took too long.
        StageFailed: a stage did not end well; those that do not need it were run all the same.
    """
    started, name = time.monotonic(), name_study(wish.study)
    with enter_study(wish.study), hold_checkout(Path()):
        study = read_study(Path())
        check_stages(study, [*wish.targets, *wish.force])
        make_folders(Path())
        part, unchanged = survey(lambda graph: select_part(graph, wish))
        # It has waited for the checkout as long as it had to.
        deadline = time.monotonic() + 3600 * wish.timeout_h
        tag_run(name, wish.targets)
        with StageRunner(wish.at_once) as runner:
            outcomes = run_stages(StageTasks(runner, study, deadline), name, part, unchanged)
        show_outcomes(name, outcomes, time.monotonic() - started)
        show_reports(name, outcomes, Path(wish.study))
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, StageFailed)]
    if failures:
        raise failures[0]
    return [outcome for outcome in outcomes.values() if isinstance(outcome, StageRun)]


@contextlib.contextmanager
def enter_study(folder: str) -> Iterator[None]:
    """Make a study's folder the working directory.

    Raises:
        BadInput: it is not there.
    """
    if not Path(folder).is_dir():
        raise BadInput(f"study: got {folder!r}, wanted a folder with a params.yaml in {Path().resolve()}")
    with contextlib.chdir(folder):
        yield


def hold_checkout(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other pipelines out of the checkout that a folder lies in; wait for one that is there."""
    return hold_file(find_checkout(folder) / ".dvc" / "tmp" / "pipeline.lock", "another pipeline runs in this checkout")


@contextlib.contextmanager
def hold_file(path: Path, taken: str) -> Iterator[None]:
    """Hold a file that one process can hold at a time.

    Args:
        taken: what it means that another holds it; said before waiting for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{taken}; waiting for it to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def select_part(graph: Graph, wish: Wish) -> Part:
    """Take the part of the graph that is asked for, with all that it needs."""
    wanted = add_needed(graph, select_stages(graph, wish.targets)) if wish.targets else set(graph)
    part = {name: needs for name, needs in graph.items() if name in wanted}
    return Part(part, select_stages(part, wish.force))


def tag_run(study: str, targets: Sequence[str]) -> None:
    """Tag the flow run by study and targets, so that it can be found."""
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(flow_run.id).tags
        client.update_flow_run(flow_run.id, tags=[*own, f"study:{study}", *(f"target:{name}" for name in targets)])


class StageTasks:
    """What the tasks of one run share; no dataclass, into which Prefect would look for futures."""

    def __init__(self, runner: StageRunner, study: Study, deadline_s: float) -> None:
        self.runner, self.study, self.deadline_s = runner, study, deadline_s

    def find_config(self, name: str) -> Config:
        """Find the configuration of a stage such as `zoo@digits`."""
        stage, _, entry = name.partition("@")
        return getattr(self.study, stage)[entry]

    def check_time(self) -> None:
        """Leave when the time is over.

        Raises:
            RunTimeout: it is.
        """
        if time.monotonic() > self.deadline_s:
            raise RunTimeout("the run took longer than its parameter timeout_h; what it finished is kept")


def is_worth_retrying(_: Task, __: TaskRun, state: State) -> bool:
    """Say whether a task failed for a reason that may be gone: another DVC process was in its way, or it was killed."""
    return isinstance(state.data, Busy) or (isinstance(state.data, StageFailed) and state.data.may_go_on)


@task(
    name="stage",
    task_run_name="{name}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_PAUSE_S,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def bring_up_to_date(shared: StageTasks, name: str, force: bool, known: list[Out] | None, width: int) -> StageRun:
    """Bring one stage up to date; its lines are shown with its name before them, padded to a width.

    Args:
        known: what it last made, if it is known that nothing about it changed.
    """
    if known is not None:
        return StageRun(name, "skipped", 0.0, known)
    log = get_run_logger()

    def show(line: str) -> None:
        log.info(line)
        print(f"{name:<{width}}  {line}", flush=True)

    hold = hold_gpus(lambda: list_gpus(shared.find_config(name)), show, lambda: shared.runner.children.stopping)
    try:
        return shared.runner.bring_up_to_date(name, force, describe_run(flow_run.id, task_run.id), show, hold)
    except Busy:
        if task_run.run_count == 1:
            show("waiting for another DVC process that is at it")
        raise
    except StageFailed as failure:
        if failure.may_go_on:
            show(f"{failure}; trying again")
        raise


def run_stages(shared: StageTasks, study: str, part: Part, unchanged: Mapping[str, list[Out]]) -> dict[str, Outcome]:
    """Run each stage once what it needs is there.

    Those that did not change have no tags: Prefect asks the server whether tags limit how many tasks run at once, each
    task on its own, which took most of the time of a run that had nothing to do.
    """
    futures: dict[str, PrefectFuture[StageRun]] = {}
    width = max(len(name) for name in part.graph)
    for name, needs in part.graph.items():
        with tags(*(() if name in unchanged else (f"study:{study}", name.partition("@")[0]))):
            futures[name] = bring_up_to_date.submit(
                shared,
                name,
                name in part.forced,
                unchanged.get(name),
                width,
                wait_for=[futures[need] for need in needs],
                return_state=False,
            )
    wait_for_all(list(futures.values()), shared.check_time, Progress(study, len(futures)).advance)
    return {name: read_outcome(future) for name, future in futures.items()}


def wait_for_all(
    futures: list[PrefectFuture[StageRun]], check: Callable[[], None], advance: Callable[[], None]
) -> None:
    """Wait until all have ended; never long without a look at the clock and the signals that came.

    A signal that comes just before the main thread goes to sleep is not noticed until it wakes.
    """
    ended = threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: ended.release())
    for _ in futures:
        while not ended.acquire(timeout=LOOK_EVERY_S):
            check_signals()
            check()
        advance()
    wait(futures)


def read_outcome(future: PrefectFuture[StageRun]) -> Outcome:
    """Read what became of a stage.

    Raises:
        Exception: what stopped it was no failure of the stage itself.
    """
    if not future.state.is_final():
        return None
    outcome = future.result(raise_on_failure=False)
    if isinstance(outcome, Exception) and not isinstance(outcome, StageFailed):
        raise outcome
    return outcome


def describe_outcome(outcome: Outcome) -> tuple[str, float]:
    """Say in a word what became of a stage, and how many seconds it took."""
    if outcome is None:
        return NOT_RUN, 0.0
    return FAILED if isinstance(outcome, StageFailed) else outcome.how, outcome.seconds


def show_outcomes(study: str, outcomes: Mapping[str, Outcome], seconds: float) -> None:
    """Show what became of each stage, on the terminal and as artifacts of the run."""
    rows = [(name, *describe_outcome(outcome)) for name, outcome in outcomes.items()]
    width = max(len(name) for name in outcomes)
    print(f"\n{'stage':<{width}}  {'how':<8}  seconds")
    for name, how, took in rows:
        print(f"{name:<{width}}  {how:<8}  {took:7.1f}")
    counts = Counter(how for _, how, _ in rows)
    print(f"{len(rows)} stages in {seconds:.1f} s: {', '.join(f'{num} {how}' for how, num in counts.items())}")
    keep_tables(study, rows, {name: done.outs for name, done in outcomes.items() if isinstance(done, StageRun)})


def show_reports(study: str, outcomes: Mapping[str, Outcome], folder: Path) -> None:
    """Say where the reports are, and keep them with the run."""
    for name, outcome in outcomes.items():
        for out in outcome.outs if isinstance(outcome, StageRun) else []:
            if out["path"].endswith("report.html"):
                print(f"report: {folder / out['path']}", flush=True)
                keep_report(study, name.partition("@")[2], Path(out["path"]).parent)
