"""Run a study through Prefect: `python -m flows.pipeline [TARGETS]`.

The graph is DVC's. Each stage is a task of the run; whether it has to run, its locks, its hashes and `dvc.lock` are
DVC's too, so that `dvc repro` finds nothing left to do afterwards, and the other way round.
"""

if __name__ == "__main__":
    # Before Prefect is imported: the command sets the environment that Prefect reads once.
    from flows.orchestration.command import main

    main()

import contextlib
import fcntl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.orchestration.graph import Busy, mend_after_kill, read_graph
from flows.orchestration.nesting import describe_run
from flows.orchestration.processes import check_signals
from flows.orchestration.runner import StageFailed, StageRun, StageRunner
from flows.orchestration.selection import add_needed, check_stages, select_stages
from flows.orchestration.settings import find_checkout
from flows.params import make_folders, read_study

BUSY_PAUSE_S = 5
LOOK_EVERY_S = 1.0
BUSY_RETRIES = 12 * 3600 // BUSY_PAUSE_S
NOT_RUN = "not run"
FAILED = "failed"
Outcome = StageRun | StageFailed | None
"""None for a stage that was not reached."""


@flow(
    name="pipeline",
    flow_run_name="{study}",
    # A thread that waits costs nothing; how many stages run at once is up to the stage runner.
    task_runner=cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=100)),
    persist_result=False,
)
def pipeline(
    targets: list[str] | None = None, force: list[str] | None = None, study: str = ".", at_once: int = 2
) -> list[StageRun]:
    """Bring a study up to date, independent stages side by side.

    Args:
        targets: `zoo` for all zoos, `zoo@digits` for one; None or empty for everything.
        force: the same, for stages that run even if nothing changed.
        study: folder with `params.yaml`, relative to the checkout.
        at_once: stages that may run side by side.

    Raises:
        BadInput: the parameters are wrong, or no such stage.
        StageFailed: a stage did not end well; those that do not need it were run all the same.
    """
    started = time.monotonic()
    with contextlib.chdir(study), hold_checkout():
        check_stages(read_study(Path()), [*(targets or []), *(force or [])])
        make_folders(Path())
        mend_after_kill()
        graph = read_graph()
        forced = select_stages(graph, force or [])
        wanted = add_needed(graph, select_stages(graph, targets)) if targets else set(graph)
        with StageRunner(at_once) as runner:
            outcomes = run_stages(runner, {name: graph[name] for name in graph if name in wanted}, forced)
        show_outcomes(outcomes, time.monotonic() - started)
        show_reports(outcomes, Path(study))
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, StageFailed)]
    if failures:
        raise failures[0]
    return [outcome for outcome in outcomes.values() if isinstance(outcome, StageRun)]


def is_busy(_: Task, __: TaskRun, state: State) -> bool:
    """Say whether a task failed only because another DVC process was in its way."""
    return isinstance(state.data, Busy)


@task(
    name="stage",
    task_run_name="{name}",
    retries=BUSY_RETRIES,
    retry_delay_seconds=BUSY_PAUSE_S,
    retry_condition_fn=is_busy,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def bring_up_to_date(runner: StageRunner, name: str, force: bool, width: int) -> StageRun:
    """Bring one stage up to date; its lines are shown with its name before them, padded to a width."""
    log = get_run_logger()

    def show(line: str) -> None:
        log.info(line)
        print(f"{name:<{width}}  {line}", flush=True)

    try:
        return runner.bring_up_to_date(name, force, describe_run(flow_run.id, task_run.id), show)
    except Busy:
        if task_run.run_count == 1:
            show("waiting for another DVC process that is at it")
        raise


def run_stages(runner: StageRunner, graph: Mapping[str, list[str]], forced: set[str]) -> dict[str, Outcome]:
    """Run each stage once what it needs is there."""
    futures: dict[str, PrefectFuture[StageRun]] = {}
    width = max(len(name) for name in graph)
    for name, needs in graph.items():
        before = [futures[need] for need in needs if need in futures]
        futures[name] = bring_up_to_date.submit(
            runner, name, name in forced, width, wait_for=before, return_state=False
        )
    wait_for_all(list(futures.values()))
    return {name: read_outcome(future) for name, future in futures.items()}


def wait_for_all(futures: list[PrefectFuture[StageRun]]) -> None:
    """Wait until all have ended; never long without a look at the signals that came.

    One that comes just before the main thread goes to sleep is not noticed until it wakes.
    """
    ended = threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: ended.release())
    for _ in futures:
        while not ended.acquire(timeout=LOOK_EVERY_S):
            check_signals()
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


def show_outcomes(outcomes: Mapping[str, Outcome], seconds: float) -> None:
    """Show what became of each stage, on the terminal and as an artifact of the run."""
    rows = [(name, *describe_outcome(outcome)) for name, outcome in outcomes.items()]
    width = max(len(name) for name in outcomes)
    print(f"\n{'stage':<{width}}  {'how':<8}  seconds")
    for name, how, took in rows:
        print(f"{name:<{width}}  {how:<8}  {took:7.1f}")
    counts = Counter(how for _, how, _ in rows)
    print(f"{len(rows)} stages in {seconds:.1f} s: {', '.join(f'{num} {how}' for how, num in counts.items())}")
    table = [{"stage": name, "how": how, "seconds": round(took, 1)} for name, how, took in rows]
    create_table_artifact(table, key="pipeline", description="What became of each stage")


def show_reports(outcomes: Mapping[str, Outcome], study: Path) -> None:
    """Say where the reports are."""
    for outcome in outcomes.values():
        for out in outcome.outs if isinstance(outcome, StageRun) else []:
            if out["path"].endswith(".html"):
                print(f"report: {study / out['path']}", flush=True)


@contextlib.contextmanager
def hold_checkout() -> Iterator[None]:
    """Keep other pipelines out of this checkout; wait for one that is there."""
    path = find_checkout(Path()) / ".dvc" / "tmp" / "pipeline.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another pipeline runs in this checkout; waiting for it to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
