"""Run a function on a worker - a thread, a process, a machine - on the terms of whoever hands out the work."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from weightspace.config import BadInput
from weightspace.record import digest_code

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
"""Environment variable that says which GPUs a process sees; read when it first uses one."""


class Terms(NamedTuple):
    """What a worker must have, and may use, for its results to be those of any other."""

    code: str
    """Digest of the code and the libraries it needs (`weightspace.record.digest_code`)."""
    num_threads: int
    num_gpus: int
    """GPUs that it must see, and no more; 0: whatever it sees."""


class Done(NamedTuple):
    """What a worker returns."""

    value: Any
    where: str
    """Machine and process."""
    seconds: float


def call(function: Callable[..., Any], arguments: Sequence[Any], terms: Terms) -> Done:
    """Call a function on this worker.

    Raises:
        BadInput: the worker's code, libraries or GPUs are not what the terms say.
    """
    started = time.monotonic()
    where = f"{platform.node()}, process {os.getpid()}"
    check_worker(where, terms)
    torch.set_num_threads(terms.num_threads)
    return Done(function(*arguments), where, time.monotonic() - started)


def check_worker(where: str, terms: Terms) -> None:
    """Refuse to work where the result could be another one.

    Raises:
        BadInput: code, libraries or GPUs are not what the terms say.
    """
    if digest_code() != terms.code:
        raise BadInput(
            f"worker on {where}: its code or libraries are not those of this checkout, wanted the same commit and "
            "constraints.txt on all machines"
        )
    seen = list_visible_gpus()
    if terms.num_gpus and len(seen) != terms.num_gpus:
        raise BadInput(
            f"worker on {where}: sees {len(seen)} GPUs, wanted {terms.num_gpus}; start it with {VISIBLE_GPUS}=INDEX"
        )


def list_visible_gpus() -> list[str]:
    """Name the GPUs that this process sees, by what it would say in the environment to see one of them."""
    said = os.environ.get(VISIBLE_GPUS)
    if said is not None:
        return [name for name in said.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


def deal_gpus(gpus: Sequence[str], num_workers: int, num_each: int) -> list[str]:
    """Deal GPUs out: for each worker what it is to see, none seen by two.

    Raises:
        BadInput: there are too few.
    """
    if num_workers * num_each > len(gpus):
        raise BadInput(
            f"gpus_per_worker: got {num_each} for each of {num_workers} workers, "
            f"but this machine has {len(gpus)} CUDA devices"
        )
    return [",".join(gpus[number * num_each : (number + 1) * num_each]) for number in range(num_workers)]


def share_cores(num_cores: int, num_workers: int) -> int:
    """Say how many threads each worker may use so that together they do not outnumber the cores."""
    return max(1, num_cores // num_workers)


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
