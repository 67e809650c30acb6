"""Train in several processes side by side, each on its share of every batch, with one result for all.

What a step draws follows from its number, so each process draws the whole batch and works on every n-th network of it.
Gradients are averaged by torch's DistributedDataParallel, and the contrast is taken over the networks of all processes,
as SimCLR does (arXiv 2002.05709, section 2.2), so that the number of processes changes results by rounding only.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn
from jaxtyping import Float
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from weightspace.config import BadInput
from weightspace.hyperrep.batches import Batch

RENDEZVOUS_NAME = "rendezvous"


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int
    """From 0; only process 0 writes and tells how training goes."""
    num: int

    def share(self, batch: Batch) -> Batch:
        """Take this process's networks of a batch."""
        mine = slice(self.rank, None, self.num)

        def take(views: Float[Tensor, "views tokens d_token"]) -> Float[Tensor, "some tokens d_token"]:
            return torch.cat([view[mine] for view in views.chunk(2)])

        return replace(batch, inputs=take(batch.inputs), targets=take(batch.targets), activation=batch.activation[mine])

    def add(self, numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Add up what each process has; all get the same."""
        if self.num > 1:
            dist.all_reduce(numbers)
        return numbers


ALONE = Ranks(0, 1)


def gather_shares(share: Float[Tensor, "networks d"], num_shares: int) -> Float[Tensor, "all_networks d"]:
    """Lay the shares of all processes end to end; gradients go back to where each comes from."""
    return share if num_shares == 1 else torch.cat(torch.distributed.nn.functional.all_gather(share))


def train_in_processes(
    train: Callable[[torch.device, Ranks], object], num: int, device: torch.device, scratch: Path
) -> None:
    """Run a training in several new processes, and wait for them.

    Args:
        train: what each process runs, for its device and rank; a function of a module, or such a one with arguments.
        device: of a kind of which each process takes one: CUDA devices from 0, or a share of the CPU's threads.
        scratch: folder in which they find each other.

    Raises:
        BadInput: a process found its input wrong, or there are fewer devices than processes.
    """
    if device.type == "cuda" and num > torch.cuda.device_count():
        raise BadInput(f"training.processes: got {num}, but this machine has {torch.cuda.device_count()} CUDA devices")
    scratch.mkdir(parents=True, exist_ok=True)
    meeting = scratch / RENDEZVOUS_NAME
    meeting.unlink(missing_ok=True)  # of processes that were killed
    told: "SimpleQueue[str]" = get_context("spawn").SimpleQueue()
    threads, level = max(1, torch.get_num_threads() // num), logging.getLogger(__name__).getEffectiveLevel()
    try:
        # Daemons, so that none outlives a parent that ends early.
        spawn(run_rank, (num, device.type, threads, level, meeting, told, train), nprocs=num, daemon=True)
    except (ProcessRaisedException, ProcessExitedException) as error:
        if not told.empty():
            raise BadInput(told.get()) from error
        raise
    finally:
        meeting.unlink(missing_ok=True)


def run_rank(
    rank: int,
    num: int,
    kind: str,
    threads: int,
    level: int,
    meeting: Path,
    told: "SimpleQueue[str]",
    train: Callable[[torch.device, Ranks], object],
) -> None:
    """Run one of several processes."""
    if rank == 0:
        logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    torch.set_num_threads(threads)
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting.resolve()}", rank=rank, world_size=num)
    try:
        train(device, Ranks(rank, num))
    except BadInput as error:
        told.put(str(error))
        raise
    finally:
        dist.destroy_process_group()
