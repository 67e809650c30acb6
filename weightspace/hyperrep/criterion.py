"""Measure how good a model is at a batch: the terms of the loss and their weighted sum."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.hyperrep.batches import Batch, seed_stream
from weightspace.hyperrep.behaviour import Behaviour, measure_behaviour
from weightspace.hyperrep.config import LossConfig
from weightspace.hyperrep.loss import measure_contrast, measure_reconstruction
from weightspace.hyperrep.model import Autoencoder
from weightspace.hyperrep.ranks import gather_shares

STREAM_DROPOUT = 6
"""Beside the streams of `batches` and `behaviour`."""


@dataclass(frozen=True)
class Criterion:
    """What a model is measured by."""

    rules: LossConfig
    behaviour: Behaviour | None
    """What networks are run on; None where the loss compares weights only."""
    spreads: Float[Tensor, "layouts layers"] | None
    """Of each layer of each layout over all train networks; None where no error is divided by them."""
    seed: int
    """Decides, with the step, what dropout drops."""
    shares: dict[str, float]
    """What each term is multiplied by in the loss, in the order of the history."""
    num_shares: int = 1
    """Processes that the networks of a batch are shared among; each has all of them in its contrast."""
    half: bool = False
    """Multiply matrices in bfloat16; the terms are always measured in float32."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Name what is measured, the loss first."""
        return "loss", *self.shares


def build_criterion(
    rules: LossConfig, behaviour: Behaviour | None, spreads: Float[Tensor, "layouts layers"] | None, seed: int
) -> Criterion:
    """Weigh the terms as the configuration says, each in its own unit."""
    return Criterion(rules, behaviour, spreads, seed, rules.shares)


@torch.no_grad()
def scale_terms(criterion: Criterion, model: Autoencoder, batch: Batch) -> Criterion:
    """Divide each term by its value for the model and the batch of the first step; one that is 0 there stays."""
    first = measure_terms(model, batch, criterion, step=0)
    shares = {name: share / (float(first[name]) or 1.0) for name, share in criterion.shares.items()}
    return replace(criterion, shares=shares)


@contextmanager
def drop_by_step(model: Autoencoder, seed: int, step: int | None, device: torch.device) -> Iterator[None]:
    """Let what dropout drops follow from the seed and the step alone; without a step, drop nothing.

    Of several processes each drops what it would alone, so that their number matters where there is dropout.
    """
    if model.config.dropout == 0:
        yield
        return
    model.train(step is not None)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_stream(seed, STREAM_DROPOUT, step or 0).initial_seed())
        yield


def measure_terms(
    model: Autoencoder, batch: Batch, criterion: Criterion, step: int | None
) -> dict[str, Float[Tensor, ""]]:
    """Measure `reconstruction` of both views, `contrast` between them, and `behaviour` where it is asked for."""
    rules, kinds, positions, device = criterion.rules, batch.kinds, batch.positions, batch.inputs.device
    half = torch.autocast(device.type, torch.bfloat16, enabled=criterion.half)
    with half, drop_by_step(model, criterion.seed, step, device):
        latents, features = model.embed(batch.inputs, kinds, positions, all_features=False)
        outputs = model.decode(latents, kinds, positions).float()
        projections = model.project(latents, features).float()
    spreads = None if criterion.spreads is None else criterion.spreads[batch.layout]
    reconstruction = measure_reconstruction(outputs, batch.targets, kinds, positions, rules, spreads)
    first, second = (gather_shares(views, criterion.num_shares) for views in projections.chunk(2))
    terms = {"reconstruction": reconstruction, "contrast": measure_contrast(first, second, rules)}
    if criterion.behaviour is not None:
        terms["behaviour"] = measure_behaviour(criterion.behaviour, outputs, batch.targets, batch.activation, step)
    return terms


def measure_losses(
    model: Autoencoder, batch: Batch, criterion: Criterion, step: int | None
) -> dict[str, Float[Tensor, ""]]:
    """Measure the terms, each in its own unit, and their weighted sum, `loss`.

    Args:
        step: decides which images networks are run on; None for a validation, which has the same each time.
    """
    terms = measure_terms(model, batch, criterion, step)
    # A term without a share is shown and sends nothing back.
    parts = [share * terms[name] for name, share in criterion.shares.items() if share]
    return {"loss": reduce(torch.add, parts), **terms}
