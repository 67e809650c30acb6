"""Open what runs the parts of a stage: threads, processes, Dask or Ray, asked directly or by Prefect's task runners."""

import importlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from operator import methodcaller
from typing import Any, Protocol

from flows import PARENT
from flows.orchestration.processes import die_with_parent
from flows.orchestration.runners import Cluster, Processes, Threads, Workers
from tasks.workers import VISIBLE_GPUS, deal_gpus, list_visible_gpus
from weightspace.config import BadInput

HOST = "127.0.0.1"
JOIN_S = 60.0
"""How long a cluster that is there may take to show a worker."""
RAY_STORE_BYTES = 100 * 2**20
"""Parts take and return little; Ray would set a third of the memory aside."""
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it does not call home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers that were dealt no GPU see what the machine has
}


class Waiting(Protocol):
    """What comes of a part that was handed out."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it. Raises what the part raised, or `TimeoutError`."""
        ...

    def done(self) -> bool:
        """Say whether it has ended, well or not: what `result` raises is then the part's own."""
        ...


Submit = Callable[..., Waiting]
"""Takes a function and its arguments; or, opened for Prefect, a task and its parameters by name."""


def open_pool(runner: Workers, observed: bool) -> AbstractContextManager[Submit]:
    """Start or reach workers; what was started ends with the block, at once if the block does not end well.

    Raises:
        BadInput: the workers do not fit this machine, are not reached, or their library is not installed.
    """
    if isinstance(runner, Threads):
        return open_threads(runner, observed)
    if isinstance(runner, Processes):
        return open_processes(runner, observed)
    return open_dask(runner, observed) if runner.kind == "dask" else open_ray(runner, observed)


@contextmanager
def open_threads(runner: Threads, observed: bool) -> Iterator[Submit]:
    """Start threads. They cannot be ended: after an interrupt each finishes its part."""
    if observed:
        from prefect.task_runners import ThreadPoolTaskRunner

        with ThreadPoolTaskRunner(max_workers=runner.num_workers or 1) as tasks:
            yield partial(submit_to_prefect, tasks, methodcaller("done"))
    else:
        with shut_down(ThreadPoolExecutor(runner.num_workers)) as pool:
            yield pool.submit


@contextmanager
def open_processes(runner: Processes, observed: bool) -> Iterator[Submit]:
    """Start processes, each with its own GPUs."""
    context = multiprocessing.get_context("spawn")
    seats = context.SimpleQueue()
    for seat in deal_seats(runner):
        seats.put(seat)
    if observed:
        from prefect.task_runners import ProcessPoolTaskRunner

        tasks = ProcessPoolTaskRunner(runner.num_workers, initializer=take_seat, initargs=(seats,))
        with tasks, end_children():
            yield partial(submit_to_prefect, tasks, methodcaller("done"))
    else:
        with shut_down(ProcessPoolExecutor(runner.num_workers, context, take_seat, (seats,))) as pool, end_children():
            yield pool.submit


def deal_seats(runner: Processes | Cluster) -> list[dict[str, str]]:
    """Say for each worker on this machine what its environment has that those of others have not."""
    num_workers, num_each = runner.num_workers or 1, runner.gpus_per_worker
    if not num_each:
        return [{} for _ in range(num_workers)]
    return [{VISIBLE_GPUS: gpus} for gpus in deal_gpus(list_visible_gpus(), num_workers, num_each)]


def take_seat(seats: Any) -> None:
    """Make a process that has just started a worker, which ends with whoever started it."""
    die_with_parent(PARENT)
    os.environ.update(seats.get())


@contextmanager
def shut_down(pool: Executor) -> Iterator[Executor]:
    """Close a pool; nothing that has not begun does so after the block."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def end_children() -> Iterator[None]:
    """End the processes that the block started, if it does not end well."""
    ended_well = False
    before = set(multiprocessing.active_children())
    try:
        yield
        ended_well = True
    finally:
        if not ended_well:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()


@contextmanager
def open_dask(runner: Cluster, observed: bool) -> Iterator[Submit]:
    """Reach a Dask cluster, or start one on this machine; what a worker that died had at hand goes to another."""
    distributed = import_extra("distributed", "dask")
    with ExitStack() as stack:
        cluster = None if runner.address else stack.enter_context(start_dask(runner))
        if runner.address:
            check_dask(distributed, runner.address)
        if observed:
            from prefect_dask.task_runners import DaskTaskRunner

            tasks = stack.enter_context(DaskTaskRunner(cluster=cluster, address=runner.address))
            yield partial(submit_to_prefect, tasks, methodcaller("done"))
        else:
            client = stack.enter_context(distributed.Client(cluster or runner.address, set_as_default=False))
            yield partial(client.submit, pure=False)


def start_dask(runner: Cluster) -> Any:
    """Start a scheduler and workers, each in a process that ends with this one; one part at a time on each."""
    from distributed import Nanny, Scheduler, SpecCluster

    # No limit of memory: Dask would share it out by threads, of which it is told of one a worker.
    quiet = {"host": HOST, "dashboard": False, "dashboard_address": f"{HOST}:0"}
    options = {**quiet, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.WARNING}
    workers = {n: {"cls": Nanny, "options": {**options, "env": seat}} for n, seat in enumerate(deal_seats(runner))}
    scheduler = {"cls": Scheduler, "options": quiet}
    level: Any = logging.WARNING
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=level)


def check_dask(distributed: Any, address: str) -> None:
    """Wait until a cluster that is there answers and has a worker.

    Raises:
        BadInput: it has none, does not answer, or has a worker that takes several parts at once.
    """
    try:
        with distributed.Client(address, set_as_default=False, timeout=JOIN_S) as client:
            client.wait_for_workers(1, timeout=JOIN_S)
            threads = {name: worker["nthreads"] for name, worker in client.scheduler_info()["workers"].items()}
    except OSError as error:  # a time-out is one
        raise BadInput(f"address: got {address}, wanted a Dask scheduler with workers ({error})") from error
    for name, num in threads.items():
        if num > 1:
            raise BadInput(f"Dask worker {name}: takes {num} parts at once, wanted one: start it with --nthreads 1")


class RayWaiting:
    """A part that Ray was given."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it; raises what the part raised as it raised it."""
        try:
            return self.ray.get(self.reference, timeout=timeout)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def done(self) -> bool:
        """Say whether it has ended, well or not."""
        return is_ready(self.ray, self.reference)


class PrefectWaiting:
    """A part that a task runner of Prefect was given, whose futures do not say whether they are done."""

    def __init__(self, future: Any, is_done: Callable[[Any], bool]) -> None:
        self.future, self.is_done = future, is_done

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it."""
        return self.future.result(timeout)

    def done(self) -> bool:
        """Say whether what Prefect's future wraps has ended, well or not."""
        return self.is_done(self.future.wrapped_future)


def submit_to_prefect(tasks: Any, is_done: Callable[[Any], bool], *arguments: Any) -> PrefectWaiting:
    """Give a task runner of Prefect a part."""
    return PrefectWaiting(tasks.submit(*arguments), is_done)


def is_ready(ray: Any, reference: Any) -> bool:
    """Ask Ray whether a part has ended."""
    ready, _ = ray.wait([reference], timeout=0)
    return bool(ready)


@contextmanager
def open_ray(runner: Cluster, observed: bool) -> Iterator[Submit]:
    """Reach a Ray cluster, or start one on this machine; what a worker that died had at hand goes to another."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = import_extra("ray", "ray")
    start_ray(ray, runner)
    try:
        if observed:
            from prefect_ray.context import remote_options
            from prefect_ray.task_runners import RayTaskRunner

            with remote_options(num_gpus=runner.gpus_per_worker), RayTaskRunner() as tasks:
                yield partial(submit_to_prefect, tasks, partial(is_ready, ray))
        else:
            yield partial(submit_to_ray, ray, ray.remote(num_gpus=runner.gpus_per_worker))
    finally:
        ray.shutdown()


def start_ray(ray: Any, runner: Cluster) -> None:
    """Connect to Ray, or start it; it ends with this process.

    Raises:
        BadInput: nothing answers at the address, or there are not the GPUs.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if runner.address:
        options: dict[str, Any] = {"address": runner.address}
    else:
        gpus = sum(bool(seat) for seat in deal_seats(runner))
        options = {"address": "local", "num_cpus": runner.num_workers, "num_gpus": gpus or None}
        options |= {"include_dashboard": False, "object_store_memory": RAY_STORE_BYTES}
    try:
        ray.init(**options, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise BadInput(f"address: got {runner.address}, wanted a Ray cluster ({error})") from error
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own in place


def submit_to_ray(ray: Any, decorate: Any, function: Callable[..., Any], *arguments: Any) -> RayWaiting:
    """Give Ray a part."""
    return RayWaiting(ray, decorate(function).remote(*arguments))


def import_extra(module: str, extra: str) -> Any:
    """Import a library that only some users need.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"runner {extra}: {module} is not installed; "
            f"python -m pip install --constraint constraints.txt --editable '.[{extra}]'"
        ) from error
