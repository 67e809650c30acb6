"""Train sparse twins of many members side by side."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture, build_layout
from weightspace.twins.config import Magnitude, TwinsConfig, Variational
from weightspace.twins.pruning import choose_kept
from weightspace.twins.variational import VariationalLearner, drop_noise
from weightspace.zoo.torch_engine import Group, find_direction, select_members, train_members_torch
from weightspace.zoo.train import list_shared, make_recipe
from weightspace.zoo.training import PROPERTIES, Recipe, Trajectory, find_momentum, make_trajectory

SPARSITY = "sparsity"
"""Share of the numbers of a checkpoint that are 0."""
Measured = tuple[Float32[Tensor, "members weights"], dict[str, Float32[Tensor, " members"]]]
"""Networks as they are kept, and their properties."""


class VariationalGroup(Group):
    """Members that learn a variance beside each number, and their optimizer's state."""

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        weights: Float32[Tensor, "members weights"],
        images: PreparedImages,
        method: Variational,
    ) -> None:
        super().__init__(architecture, recipe, weights, images, method.epochs)
        self.method = method
        self.learner = VariationalLearner(architecture, recipe, method)
        self.weights = torch.cat([weights, torch.full_like(weights, method.log_sigma2)], dim=1)
        self.state = (torch.zeros_like(self.weights), torch.zeros_like(self.weights))

    def take_step(self, gradient: Float32[Tensor, "members weights"]) -> Float32[Tensor, "members weights"]:
        """Apply each member's optimizer, with a rate for weights and one for variances."""
        own = torch.from_numpy(self.recipe.lr).to(self.weights)[:, None]
        rate = own if self.method.lr is None else torch.full_like(own, self.method.lr)
        variance_rate = rate if self.method.variance_lr is None else torch.full_like(own, self.method.variance_lr)
        half = self.weights.shape[1] // 2
        rates = torch.cat([rate.expand(-1, half), variance_rate.expand(-1, half)], dim=1)
        momentum = find_momentum(self.optimizer, "constant", np.full(len(own), self.step), np.array(self.num_steps))
        return self.weights - rates * find_direction(self.optimizer, gradient, self.state, self.step, momentum)

    def take_networks(self) -> Float32[Tensor, "members weights"]:
        """Return the networks that the twins stand for: mean weights, and 0 for what is mostly noise."""
        means, log_sigma2 = self.weights.chunk(2, dim=1)
        return drop_noise(means, log_sigma2, self.method.threshold)

    def measure(self) -> dict[str, Float32[Tensor, " members"]]:
        """Measure loss and accuracy of those networks on all three splits."""
        learning = self.weights
        self.weights = self.take_networks()
        properties = super().measure()
        self.weights = learning
        return properties


class PrunedGroup(Group):
    """Members of which some numbers are held at 0."""

    kept: Bool[Tensor, "members weights"] | None = None

    def prune(self, sparsity: float, method: Magnitude) -> None:
        """Set the smallest numbers to 0, and hold them there."""
        assert isinstance(self.architecture, Architecture)
        self.kept = choose_kept(build_layout(self.architecture), self.weights, sparsity, method.scope)
        self.weights = self.weights * self.kept

    def take_step(self, gradient: Float32[Tensor, "members weights"]) -> Float32[Tensor, "members weights"]:
        """Apply each member's optimizer to what is not held."""
        stepped = super().take_step(gradient)
        return stepped if self.kept is None else stepped * self.kept


def train_twins(
    config: TwinsConfig,
    architecture: Architecture,
    factors: pd.DataFrame,
    start: Float32[Tensor, "members weights"],
    images: PreparedImages,
    device: torch.device,
    on_epoch: Callable[[int], None] | None = None,
    folder: Path | None = None,
) -> Trajectory:
    """Make the twin of each member of a table; members keep its order.

    Args:
        factors: a row a member, with how it was trained.
        start: its weights, from which its twin starts.
        on_epoch: called with the number of members whose next epoch is done.
        folder: where weights lie if they are many, see `training.make_trajectory`; None: in memory.
    """
    names = (*PROPERTIES, SPARSITY)
    trajectory = make_trajectory(len(factors), count_checkpoints(config), start.shape[1], folder, names)
    for rows in group_members(architecture, factors, len(images.train)):
        recipe = adapt_recipe(make_recipe(factors.iloc[rows], len(images.train)), config)
        checkpoints = walk_epochs(config, architecture, recipe, start[rows].to(device), images)
        for number, (networks, found) in enumerate(checkpoints):
            measured = {name: values.cpu().numpy() for name, values in found.items()}
            trajectory.keep(rows, number, networks.cpu().numpy(), measured)
            if on_epoch:
                on_epoch(len(rows))
    return trajectory


def count_checkpoints(config: TwinsConfig) -> int:
    """Count the checkpoints of each twin, its start included."""
    method = config.method
    if isinstance(method, Variational):
        return 1 + method.epochs
    return 1 + len(method.sparsities) * (1 + method.epochs)


def group_members(
    architecture: Architecture, factors: pd.DataFrame, num_images: int
) -> list[Int64[np.ndarray, " rows"]]:
    """Number the rows of members that train side by side: of one kernel, and with as many steps an epoch."""
    shared = [name for name in list_shared(train_members_torch, architecture) if name in factors]
    num_train = np.round(factors["train_fraction"].to_numpy(float) * num_images)
    groups = factors.loc[:, shared].assign(num_train=num_train).groupby([*shared, "num_train"], sort=True).indices
    return [np.asarray(rows, np.int64) for rows in groups.values()]


def adapt_recipe(recipe: Recipe, config: TwinsConfig) -> Recipe:
    """Have members go on at a constant rate; the penalty of variational dropout replaces weight decay and dropout."""
    copied = select_members(recipe, np.arange(len(recipe.seed)))  # torch does not take a table's own arrays
    recipe = replace(copied, schedule="constant")
    if isinstance(config.method, Magnitude):
        return recipe
    nothing = np.zeros(len(recipe.seed))
    return replace(recipe, weight_decay=nothing, dropout=nothing)


def walk_epochs(
    config: TwinsConfig,
    architecture: Architecture,
    recipe: Recipe,
    start: Float32[Tensor, "members weights"],
    images: PreparedImages,
) -> Iterator[Measured]:
    """Yield each checkpoint of members that train side by side; epochs go on where those of the zoo ended."""
    method, epoch = config.method, config.from_epoch
    if isinstance(method, Variational):
        group = VariationalGroup(architecture, recipe, start, images, method)
        yield add_sparsity(group.take_networks(), group.measure())
        for _ in range(method.epochs):
            epoch += 1
            group.train_epoch(epoch)
            yield add_sparsity(group.take_networks(), group.measure())
        return
    pruned = PrunedGroup(architecture, recipe, start, images, method.epochs * len(method.sparsities))
    yield add_sparsity(pruned.weights, pruned.measure())
    for sparsity in method.sparsities:
        pruned.prune(sparsity, method)
        yield add_sparsity(pruned.weights, pruned.measure())
        for _ in range(method.epochs):
            epoch += 1
            pruned.train_epoch(epoch)
            yield add_sparsity(pruned.weights, pruned.measure())


def add_sparsity(
    networks: Float32[Tensor, "members weights"], properties: dict[str, Float32[Tensor, " members"]]
) -> Measured:
    """Measure how many numbers are 0, besides the other properties."""
    return networks, {**properties, SPARSITY: (networks == 0).float().mean(1)}
