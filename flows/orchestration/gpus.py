"""Hold the GPUs that a stage computes on, so that two runs never share one by accident.

Each GPU of each machine is a global concurrency limit of Prefect with one slot. A run that is killed gives its slots
back once Prefect's server has not heard of it for a while.
"""

import contextlib
import functools
import logging
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError

from flows.orchestration.processes import child_environment
from weightspace.config import Config

VISIBLE = "CUDA_VISIBLE_DEVICES"
ASK_TORCH = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
PREFECT_LOGGER = "prefect._internal.concurrency"
LEASE_S = 300.0
"""A slot whose holder is not heard of for so long is free again."""
LOOK_EVERY_S = 5.0


def list_gpus(config: Config) -> list[str]:
    """Name the concurrency limits of the GPUs that an entry of a study is computed on; none on a CPU."""
    device = getattr(config, "device", "cpu")
    kind, _, index = (resolve_auto() if device == "auto" else device).partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        return []
    processes = getattr(getattr(config, "training", None), "processes", 1)
    numbers = range(processes) if processes > 1 else [int(index or 0)]
    return [name_limit(number) for number in numbers]


@functools.cache
def resolve_auto() -> str:
    """Find out what `auto` means on this machine, in a process that may load torch."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, check=True, env=child_environment()
    )
    return answer.stdout.strip()


def name_limit(number: int) -> str:
    """Name the limit of a GPU: after the machine, and the GPU's number there, not among those that we may see."""
    visible = [gpu.strip() for gpu in os.environ.get(VISIBLE, "").split(",") if gpu.strip()]
    gpu = visible[number] if number < len(visible) else number
    # Prefect allows few other characters in a name.
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"gpu-{platform.node()}-{gpu}")


@contextlib.contextmanager
def hold_gpus(
    find_limits: Callable[[], Sequence[str]], show: Callable[[str], None], give_up: Callable[[], bool]
) -> Iterator[None]:
    """Hold a slot of each limit, all or none; waits as long as another run has one.

    Args:
        find_limits: names the limits, once they are needed.
        give_up: says whether to stop waiting.

    Raises:
        InterruptedError: it said so.
    """
    limits = find_limits()
    with contextlib.ExitStack() as held:
        if limits:
            make_limits(limits)
            held.enter_context(wait_for_slots(limits, show, give_up))
        yield


def make_limits(limits: Sequence[str]) -> None:
    """Make limits of one slot; those that are there stay as they are."""
    with get_client(sync_client=True) as client:
        for name in limits:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


@contextlib.contextmanager
def wait_for_slots(limits: Sequence[str], show: Callable[[str], None], give_up: Callable[[], bool]) -> Iterator[None]:
    """Wait for a slot of each limit, and hold them.

    Raises:
        InterruptedError: we gave up.
    """
    waits = 0
    logging.getLogger(PREFECT_LOGGER).addFilter(is_no_wait)
    with contextlib.ExitStack() as held:
        while not give_up():
            try:
                held.enter_context(take_slots(limits))
                break
            except ConcurrencySlotAcquisitionError as error:
                if not is_taken(error):
                    raise
                if waits == 0:
                    show(f"waiting for {', '.join(limits)}, which another run holds")
                waits += 1
                time.sleep(LOOK_EVERY_S)
        else:
            raise InterruptedError("stopping")
        yield


def is_no_wait(record: logging.LogRecord) -> bool:
    """Say whether a line of the log is about something else than slots that were not free.

    To Prefect that is an error each time; to us it is a reason to look whether to wait on.
    """
    return "ConcurrencySlotAcquisition" not in record.getMessage()


def is_taken(error: ConcurrencySlotAcquisitionError) -> bool:
    """Say whether slots could not be had because others hold them."""
    cause = error.__cause__
    return isinstance(cause, PrefectHTTPStatusError) and cause.response.status_code == HTTPStatus.LOCKED


def take_slots(limits: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Take a slot of each limit; entering it raises `ConcurrencySlotAcquisitionError` if they are not free.

    One question, answered: were we to stop listening after a while, a slow server would keep a slot for nobody.
    """
    return concurrency(
        list(limits),
        max_retries=0,
        lease_duration=LEASE_S,
        strict=True,
        # A stage is not thrown away because the server is away for some minutes.
        raise_on_lease_renewal_failure=False,
    )
