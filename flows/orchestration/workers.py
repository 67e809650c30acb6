"""Run the parts of a stage on workers: threads, processes, Dask or Ray.

Where a Prefect server observes the run, Prefect's own task runners hand the parts out, each a task run of the
pipeline. Without a server the same workers are asked directly: a task runner would start a server in each of them.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.orchestration.nesting import API_URL, is_observed, make_task, observe
from flows.orchestration.pools import Waiting, open_pool
from flows.orchestration.processes import check_signals
from flows.orchestration.runners import Here, Workers, read_runner
from tasks.workers import Done, Terms, call, count_cores, share_cores
from weightspace.record import digest_code

logger = logging.getLogger(__name__)
MAX_BREAKS = 3
"""How often a pool of processes that lost one is started anew; Dask and Ray start workers anew themselves."""
LOOK_EVERY_S = 1.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Submit = Callable[[Sequence[Any]], Waiting]
"""Hands out one part, given the arguments of `tasks.workers.call`."""


def run_everywhere(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call a function with each of some arguments, where the setting of this checkout says.

    Raises:
        BadInput: the setting is wrong, or its workers do not fit.
        RuntimeError: workers died again and again.
    """
    runner = read_runner(Path())
    if isinstance(runner, Here):
        step = observe(function)
        for arguments in calls:
            step(*arguments)
        return
    terms = make_terms(runner)
    run_on_workers(runner, [(function, arguments, terms) for arguments in calls])


def make_terms(runner: Workers) -> Terms:
    """Say what each worker must have and may use."""
    threads = runner.threads_per_worker or share_cores(count_cores(), runner.num_workers or 1)
    return Terms(digest_code(), threads, runner.gpus_per_worker)


def run_on_workers(runner: Workers, parts: Sequence[Sequence[Any]]) -> None:
    """Run all parts; those of a pool that broke are handed out again, those that are done are not.

    Raises:
        RuntimeError: the pool broke again and again.
    """
    logger.info("%d parts on %s", len(parts), describe(runner, parts[0][2]))
    todo = list(parts)
    for _ in range(MAX_BREAKS + 1):
        with open_workers(runner, parts[0][0].__name__) as submit:
            todo = collect(submit, todo, len(parts))
        if not todo:
            return
        logger.warning("a worker died (killed, or out of memory) and took its pool with it: %d parts again", len(todo))
    raise RuntimeError(
        f"{len(todo)} of {len(parts)} parts were lost, as workers died {MAX_BREAKS + 1} times; the rest is kept. "
        "Look for what ended them (memory?), take fewer workers, and run it again"
    )


def describe(runner: Workers, terms: Terms) -> str:
    """Say in words where parts run."""
    address = getattr(runner, "address", None)
    where = f"the cluster at {address}" if address else f"{runner.num_workers} workers"
    gpus = f" and {terms.num_gpus} GPU" if terms.num_gpus else ""
    return f"{runner.kind}: {where}, {terms.num_threads} threads{gpus} each"


def collect(submit: Submit, parts: Sequence[Sequence[Any]], num_all: int) -> list[Sequence[Any]]:
    """Hand parts out and wait for them in order; returns those that were lost with a broken pool."""
    lost: list[Sequence[Any]] = []
    waiting: list[Waiting] = []
    with suppress(BrokenExecutor):
        for part in parts:
            waiting.append(submit(part))  # noqa: PERF401  (those before one that is refused are waited for)
    for number, part in enumerate(parts):
        try:
            result = wait_for(waiting[number]) if number < len(waiting) else None
        except BrokenExecutor:
            result = None
        if result is None:
            lost.append(part)
            continue
        done = num_all - len(parts) + number + 1 - len(lost)
        logger.info("%d of %d parts done: %.1f s on %s", done, num_all, result.seconds, result.where)
    return lost


def wait_for(future: Waiting) -> Done:
    """Wait for a part; never long without a look at the signals that came."""
    while True:
        try:
            return Done(*future.result(timeout=LOOK_EVERY_S))
        except TimeoutError:
            if future.done():  # this moment, or it was the part itself that timed out
                return Done(*future.result())
            check_signals()


@contextmanager
def open_workers(runner: Workers, name: str) -> Iterator[Submit]:
    """Start or reach workers; what was started ends with the block, at once if the block does not end well.

    Args:
        name: what Prefect calls a part.
    """
    observed = is_observed() and workers_reach_server(runner)
    with open_pool(runner, observed) as submit:
        yield partial(submit_task, submit, make_task(call, name)) if observed else partial(submit_plain, submit)


def workers_reach_server(runner: Workers) -> bool:
    """Say whether the workers can tell Prefect's server what they do."""
    host = urlsplit(os.environ[API_URL]).hostname
    if getattr(runner, "address", None) is None or host not in LOOPBACK:
        return True
    logger.info("Prefect's server (%s) is not reached from other machines, so it does not show the parts", host)
    return False


def submit_task(submit: Callable[..., Waiting], step: Any, part: Sequence[Any]) -> Waiting:
    """Hand a part to a task runner of Prefect."""
    return submit(step, dict(zip(("function", "arguments", "terms"), part, strict=True)))


def submit_plain(submit: Callable[..., Waiting], part: Sequence[Any]) -> Waiting:
    """Hand a part to workers directly."""
    return submit(call, *part)
