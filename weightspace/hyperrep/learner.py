"""Measure the loss that a step learns from: in half precision, compiled, or over several processes, as asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from weightspace.config import BadInput
from weightspace.hyperrep.batches import Batch
from weightspace.hyperrep.config import TrainingConfig
from weightspace.hyperrep.criterion import Criterion, measure_losses
from weightspace.hyperrep.model import Autoencoder, Block
from weightspace.hyperrep.ranks import Ranks

Learn = Callable[[Batch, int], dict[str, Float[Tensor, ""]]]
"""Measures the terms of a batch at a step; going back from `loss` gives the model its gradients."""


class Learner(nn.Module):
    """The criterion applied to the model, as one module."""

    def __init__(self, model: Autoencoder, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion

    def forward(self, batch: Batch, step: int) -> dict[str, Float[Tensor, ""]]:
        """Measure all terms; only through `loss` do gradients go back."""
        terms = measure_losses(self.model, batch, self.criterion, step)
        return {name: term if name == "loss" else term.detach() for name, term in terms.items()}


def build_learner(model: Autoencoder, criterion: Criterion, rules: TrainingConfig, ranks: Ranks) -> Learn:
    """Build what a step measures its loss with.

    Raises:
        BadInput: the networks of a batch cannot be shared evenly.
    """
    for key, count in list_counts(criterion, rules):
        if count % ranks.num:
            raise BadInput(f"{key}: got {count}, wanted a multiple of training.processes, {ranks.num}")
    learner: Any = Learner(model, share_criterion(criterion, rules, ranks))
    if rules.compile:
        for block in filter(lambda module: isinstance(module, Block), model.modules()):
            block.compile()  # each alone: all are one program, so that only the first takes long
    if ranks.num > 1:
        # A term without a share leaves its part of the model without gradients.
        idle = not all(criterion.shares.values())
        learner = DistributedDataParallel(learner, find_unused_parameters=idle)
    return learner


def list_counts(criterion: Criterion, rules: TrainingConfig) -> list[tuple[str, int]]:
    """Name the settings that count networks of a batch."""
    counts = [("training.batch_size", rules.num_networks)]
    if criterion.behaviour is not None:
        counts.append(("loss.behaviour.num_networks", criterion.behaviour.rules.num_networks))
    return counts


def share_criterion(criterion: Criterion, rules: TrainingConfig, ranks: Ranks) -> Criterion:
    """Make the criterion of one process's share of a batch."""
    behaviour = criterion.behaviour
    if behaviour is not None:
        num = behaviour.rules.num_networks // ranks.num
        behaviour = replace(behaviour, rules=behaviour.rules.model_copy(update={"num_networks": num}))
    return replace(
        criterion,
        behaviour=behaviour,
        num_shares=ranks.num,
        half=rules.precision == "bfloat16",
        seed=criterion.seed + (ranks.rank << 32),  # what dropout drops is each process's own
    )
