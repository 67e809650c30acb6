"""Train many members at once with plain torch: slow, for every device, and the oracle of the fused engines.

A chain alone is the same as among others but for rounding, not to the bit as in the fused engines: torch sums in
another order where it multiplies for another number of members. Modules are the same to the bit, since
`train.train_table` always trains as many side by side.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from weightspace.images.image_set import SPLITS, PreparedImages
from weightspace.zoo.augmentation import Changes, augment_images, draw_changes
from weightspace.zoo.evaluate import average_answers, evaluate_members
from weightspace.zoo.kinds import Network
from weightspace.zoo.learners import Lesson, make_learner
from weightspace.zoo.training import (
    Keep,
    Optimizer,
    Recipe,
    batch_bounds,
    draw_labels,
    draw_order,
    draw_subset,
    find_momentum,
    scale_rate,
)


def train_members_torch(
    architecture: Network,
    recipe: Recipe,
    initial: Float32[Tensor, "members weights"],
    images: PreparedImages,
    epochs: int,
    device: torch.device,
    keep: Keep,
) -> None:
    """Train members that share a recipe; see `training.TrainMembers`."""
    parts = [np.flatnonzero(recipe.num_train == num_train) for num_train in np.unique(recipe.num_train)]
    groups = [Group(architecture, select_members(recipe, p), initial[p].to(device), images, epochs) for p in parts]
    for epoch in range(epochs + 1):
        for rows, group in zip(parts, groups, strict=True):
            if epoch:
                group.train_epoch(epoch)
            measured = {name: values.cpu().numpy() for name, values in group.measure().items()}
            keep(rows, epoch, group.weights.cpu().numpy(), measured)


def select_members(recipe: Recipe, rows: Int64[np.ndarray, " rows"]) -> Recipe:
    """Keep some members of a recipe."""
    arrays = {name: value[rows] for name, value in vars(recipe).items() if isinstance(value, np.ndarray)}
    return replace(recipe, **arrays)


class Group:
    """Members that take the same number of steps, and their optimizer's state."""

    def __init__(
        self,
        architecture: Network,
        recipe: Recipe,
        weights: Float32[Tensor, "members weights"],
        images: PreparedImages,
        epochs: int,
    ) -> None:
        assert isinstance(recipe.optimizer, str)
        assert isinstance(recipe.batch_size, int)
        self.optimizer: Optimizer = recipe.optimizer
        self.batch_size = recipe.batch_size
        self.architecture, self.recipe, self.weights, self.images = architecture, recipe, weights, images
        self.learner = make_learner(architecture, recipe, weights.device)
        num_train, num_images = int(recipe.num_train[0]), len(images.train)
        self.subsets = [draw_subset(int(seed), num_train, num_images) for seed in recipe.seed]
        self.uses = torch.zeros(len(weights), num_images, dtype=torch.bool, device=weights.device)
        self.uses.scatter_(1, torch.from_numpy(np.stack(self.subsets)).to(weights.device), True)
        self.labels = self.draw_labels()
        self.black = images.train.amin((0, 2, 3))  # normalised, and nearly every set has a black pixel
        self.step, self.num_steps = 0, epochs * -(-num_train // self.batch_size)
        self.state = (torch.zeros_like(weights), torch.zeros_like(weights))
        self.during: tuple[Float32[Tensor, " members"], Float32[Tensor, " members"]] | None = None
        """Loss and accuracy on the images of the last epoch, each before its batch's step."""

    def draw_labels(self) -> Int64[Tensor, "members images"] | Int64[Tensor, " images"]:
        """Return the training labels that each member sees, or that all see."""
        noise = np.broadcast_to(self.recipe.label_noise, len(self.weights))
        if not noise.any():
            return self.images.train_labels
        labels, seeds = self.images.train_labels.cpu().numpy(), self.recipe.seed.tolist()
        parts = zip(seeds, self.subsets, noise.tolist(), strict=True)
        classes = self.architecture.num_classes
        drawn = [draw_labels(seed, labels, subset, share, classes) for seed, subset, share in parts]
        return torch.from_numpy(np.stack(drawn)).to(self.images.train_labels.device)

    def train_epoch(self, epoch: int) -> None:
        """Take every member through its training images once, in its own order."""
        orders = [draw_order(int(s), epoch, part) for s, part in zip(self.recipe.seed, self.subsets, strict=True)]
        order = torch.from_numpy(np.stack(orders)).to(self.weights.device)
        changes = draw_changes(self.recipe, epoch, order.shape[1])
        loss, right = torch.zeros(2, len(order), dtype=torch.float64, device=order.device)
        for start, stop in batch_bounds(order.shape[1], self.batch_size):
            lesson = self.learn(order[:, start:stop], changes and changes.pick(start, stop))
            self.weights = lesson.weights
            self.weights = self.take_step(lesson.gradient)
            self.step += 1
            loss += lesson.loss.double() * (stop - start)
            right += lesson.right
        self.during = average_answers(loss, right, order.shape[1])

    def learn(self, chosen: Int64[Tensor, "members batch"], changes: Changes | None = None) -> Lesson:
        """Differentiate each member's mean loss on its own batch of images, changed as said."""
        labels = self.labels[chosen] if self.labels.ndim == 1 else self.labels.gather(1, chosen)
        images = self.images.train[chosen]
        if changes is not None:
            images = augment_images(images, changes, self.black)
        return self.learner.differentiate(self.weights, images, labels, self.step)

    def take_step(self, gradient: Float32[Tensor, "members weights"]) -> Float32[Tensor, "members weights"]:
        """Apply each member's optimizer with its own learning rate and weight decay; buffers stay as they are."""
        steps = np.full(len(self.weights), self.step)
        schedule, total = self.recipe.schedule, np.array(self.num_steps)
        rate = self.recipe.lr * scale_rate(schedule, steps, total)
        kept = find_momentum(self.optimizer, schedule, steps, total)
        lr = torch.from_numpy(rate).to(self.weights)[:, None]
        decay = torch.from_numpy(self.recipe.weight_decay).to(self.weights)[:, None]
        if self.learner.trained is not None:
            decay = decay * self.learner.trained
        weights = self.weights
        if self.optimizer == "adamw":
            weights = weights * (1 - lr * decay)
        else:
            gradient = gradient + decay * weights
        return weights - lr * find_direction(self.optimizer, gradient, self.state, self.step, kept)

    def measure(self) -> dict[str, Float32[Tensor, " members"]]:
        """Measure loss and accuracy on all three splits."""
        properties = {}
        for split in SPLITS:
            loss, accuracy = self.measure_split(split)
            properties |= {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        return properties

    def measure_split(self, split: str) -> tuple[Float32[Tensor, " members"], Float32[Tensor, " members"]]:
        """Measure loss and accuracy; of the training images on those that each member uses."""
        if split == "train" and self.during and self.recipe.train_metrics == "during":
            return self.during
        return evaluate_members(
            self.architecture,
            self.weights,
            self.recipe.activation,
            getattr(self.images, split),
            self.labels if split == "train" else getattr(self.images, f"{split}_labels"),
            self.uses if split == "train" else None,
        )


def find_direction(
    optimizer: Optimizer,
    gradient: Float[Tensor, "members weights"],
    state: tuple[Float[Tensor, "members weights"], Float[Tensor, "members weights"]],
    step: int,
    kept: Float[np.ndarray, " members"],
) -> Float[Tensor, "members weights"]:
    """Turn a gradient into what the learning rate multiplies, and bring the optimizer's state up to date.

    Args:
        state: first and second moment, changed in place.
        step: counts from 0.
        kept: each member's momentum, see `training.find_momentum`.

    Source: torch.optim's SGD (momentum 0.9), RMSprop, Adam and AdamW, with their default hyper-parameters.
    """
    first, second = state
    momentum = torch.from_numpy(kept).to(first)[:, None]
    if optimizer == "sgd":
        return first.mul_(momentum).add_(gradient).clone()
    if optimizer == "rmsprop":
        second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        return first.mul_(momentum).addcdiv_(gradient, second.sqrt() + 1e-8).clone()
    first.lerp_(gradient, torch.from_numpy(1 - kept).to(first)[:, None])
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    root = second.sqrt() / (1 - 0.999 ** (step + 1)) ** 0.5 + 1e-8
    return first / torch.from_numpy(1 - kept ** (step + 1)).to(first)[:, None] / root
