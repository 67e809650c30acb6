"""Find how many networks a step can have: the largest power of two that fits the memory.

What a step keeps for its gradients is counted, not timed, so that a machine finds the same number each time.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from weightspace.hyperrep.batches import Batch
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.hyperrep.criterion import Criterion, measure_losses
from weightspace.hyperrep.mixture import Part, draw_step
from weightspace.hyperrep.model import Autoencoder
from weightspace.hyperrep.state import read_note

log = logging.getLogger(__name__)
CUDA_SHARE = 0.4
"""Of a GPU's memory; gradients and what is in use for a moment need the rest."""
CPU_SHARE = 0.1
"""Of the machine's memory, and no more than `CPU_BYTES`."""
CPU_BYTES = 2**28
"""On a CPU larger steps do not go through more networks a second: the quickstart's model went through 78, 80, 81 and 79
on one core in steps of 32, 64, 128 and 256, which keep 72, 143, 285 and 570 MiB."""


def settle_batch_size(
    config: HyperrepConfig,
    parts: Sequence[Part],
    model: Autoencoder,
    criterion: Criterion,
    device: torch.device,
    scratch: Path | None,
) -> HyperrepConfig:
    """Put a number in the place of `batch_size: auto`: the one a training has that was killed, or a new one."""
    rules = config.training
    if rules.batch_size != "auto":
        return config
    note = None if scratch is None else read_note(scratch)
    found = find_batch_size(config, parts, model, criterion, device) if note is None else note.batch_size
    log.info("hyperrep: batch_size auto is %d%s", found, "" if note is None else ", as before")
    return config.model_copy(update={"training": rules.model_copy(update={"batch_size": found})})


def find_batch_size(
    config: HyperrepConfig,
    parts: Sequence[Part],
    model: Autoencoder,
    criterion: Criterion,
    device: torch.device,
) -> int:
    """Find the largest power of two, times the number of processes, that fits the memory.

    No step has more networks than a layout has train members, so that none is of a member twice.
    """
    budget, most = tell_budget(device), min(part.pool.num_members for part in parts)
    longest = max(parts, key=lambda part: part.batching.window * part.batching.tokenizer.d_token)
    share = 1
    while 2 * share * config.training.processes <= most:
        rules = config.training.model_copy(update={"batch_size": 2 * share})
        if count_kept(model, draw_step([longest], rules, 0).to(device), criterion) > budget:
            break
        share *= 2
    return share * config.training.processes


def tell_budget(device: torch.device) -> int:
    """Say how many bytes a step may keep for its gradients."""
    if device.type == "cuda":
        return int(CUDA_SHARE * torch.cuda.get_device_properties(device).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(CPU_BYTES, int(CPU_SHARE * memory))


def count_kept(model: Autoencoder, batch: Batch, criterion: Criterion) -> int:
    """Count the bytes that a step keeps for its gradients, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = measure_losses(model, batch, criterion, step=0)
    assert losses  # alive until here, and with them all that was kept
    return sum(size for place, size in kept.items() if place not in own)
