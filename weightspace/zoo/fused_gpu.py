"""Train many members at once on a GPU: one Triton program a member, an epoch a launch.

Differs: speed has not been measured on a GPU; what is tested is that it computes the same as torch.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.images.image_set import SPLITS, PreparedImages
from weightspace.networks import Architecture
from weightspace.zoo import fused_gpu_source as source
from weightspace.zoo.fused_build import load_function
from weightspace.zoo.fused_kernels import ACTIVATIONS, OPTIMIZERS
from weightspace.zoo.kinds import Network
from weightspace.zoo.training import (
    Keep,
    Recipe,
    draw_labels,
    draw_order,
    draw_subset,
    find_momentum,
    mix_bits,
    scale_rate,
)

Means = tuple[Float32[np.ndarray, " members"], Float32[np.ndarray, " members"]]
"""Loss and accuracy."""


def train_members_gpu(
    architecture: Network,
    recipe: Recipe,
    initial: Float32[Tensor, "members weights"],
    images: PreparedImages,
    epochs: int,
    device: torch.device,
    keep: Keep,
) -> None:
    """Train members that share a recipe; see `training.TrainMembers`. Members may differ in optimizer and batch size.

    Raises:
        BadInput: there is no kernel for the activation, an optimizer or the augmentation.
    """
    assert isinstance(architecture, Architecture), "`train.choose_engine` gives other networks to the torch engine"
    check_support(recipe)
    tables = {
        s: (getattr(images, s).to(device, torch.float32).contiguous(), getattr(images, f"{s}_labels").cpu().numpy())
        for s in SPLITS
    }
    optimizers = np.broadcast_to(np.asarray(recipe.optimizer), len(initial))
    parts = [np.flatnonzero(optimizers == name) for name in np.unique(optimizers)]
    groups = [Group(architecture, recipe, rows, initial, tables, epochs, device) for rows in parts]
    for epoch in range(epochs + 1):
        for group in groups:
            trained = group.train_epoch(epoch) if epoch else None
            keep(group.members, epoch, group.state[:, 0].cpu().numpy(), group.measure(trained))


def check_support(recipe: Recipe) -> None:
    """Refuse what there is no kernel for; of these, only augmentation is something that the torch engine does."""
    asked = [(recipe.activation, ACTIVATIONS, ""), (recipe.augmentation, ("none",), ", or the torch engine")]
    asked += [(name, OPTIMIZERS, "") for name in np.unique(np.asarray(recipe.optimizer)).tolist()]
    for name, known, other in asked:
        if name not in known:
            words = ", ".join(str(word) for word in known if word)
            raise BadInput(f"engine fused_gpu: got {name!r}, wanted one of {words}{other}")


@cache
def build_kernel(text: str, name: str) -> Any:
    """Load a generated kernel; Triton compiles it when it is first launched."""
    return load_function(text, name)


class Group:
    """Members that share an optimizer, and their state on the device.

    CNN-s trained on 50,000 images takes 1.1 MB a member: image numbers and labels in two orders, state, and a batch.
    """

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        members: Int64[np.ndarray, " members"],
        initial: Float32[Tensor, "all weights"],
        tables: dict[str, tuple[Tensor, np.ndarray]],
        epochs: int,
        device: torch.device,
    ) -> None:
        self.members, self.tables, self.epochs, self.device = members, tables, epochs, device
        self.classes = architecture.num_classes
        pick = lambda value: np.broadcast_to(np.asarray(value), len(recipe.seed))[members]  # noqa: E731
        self.seed, self.num_train, self.batch = pick(recipe.seed), pick(recipe.num_train), pick(recipe.batch_size)
        self.lr, self.decay, self.schedule = pick(recipe.lr), pick(recipe.weight_decay), pick(recipe.schedule)
        self.noise, self.dropout = pick(recipe.label_noise), pick(recipe.dropout)
        self.optimizer: Any = pick(recipe.optimizer)[0]
        self.metrics, drops = recipe.train_metrics, bool(self.dropout.any())
        text = source.write_train(architecture, recipe.activation, self.optimizer, drops, self.metrics)
        self.train = build_kernel(text, "train")
        self.evaluate = build_kernel(source.write_evaluate(architecture, recipe.activation), "evaluate")
        plan = source.Plan(architecture)
        self.state = torch.zeros(len(members), 4, plan.num_weights, device=device)
        self.state[:, 0] = initial[torch.from_numpy(members)].to(device)
        self.room = max(source.TILE, int(self.batch.max()))
        self.scratch_size = len(members) * self.room * plan.units
        self.subsets = [
            draw_subset(int(seed), int(number), len(tables["train"][0]))
            for seed, number in zip(self.seed, self.num_train, strict=True)
        ]
        self.labels = self.draw_labels()
        self.words = self.upload(self.tabulate_words())
        self.seen = self.lay_orders(self.subsets)

    def upload(self, table: np.ndarray) -> Tensor:
        """Copy a table to the device."""
        return torch.from_numpy(np.ascontiguousarray(table)).to(self.device)

    def draw_labels(self) -> list[np.ndarray]:
        """Return the training labels that each member sees."""
        true = self.tables["train"][1].astype(np.int64)
        if not self.noise.any():
            return [true] * len(self.members)
        parts = zip(self.seed.tolist(), self.subsets, self.noise.tolist(), strict=True)
        return [draw_labels(seed, true, subset, share, self.classes) for seed, subset, share in parts]

    def tabulate_words(self) -> np.ndarray:
        """Tabulate what dropout needs of each member: hashed seed, least hash that is kept, and the factor's bits."""
        words = np.empty((len(self.members), 3), np.uint32)
        words[:, 0] = mix_bits(self.seed.astype(np.uint64))
        words[:, 1] = np.minimum(np.round(self.dropout * 2.0**32), 2**32 - 1)
        words[:, 2] = (1 / (1 - self.dropout)).astype(np.float32).view(np.uint32)
        return words.view(np.int32)

    def tabulate_counts(self, epoch: int) -> np.ndarray:
        """Tabulate images, batch size and steps taken before the epoch of each member."""
        steps = -(-self.num_train // self.batch)
        return np.stack([self.num_train, self.batch, max(0, epoch - 1) * steps], axis=1).astype(np.int32)

    def tabulate_schedule(self, epoch: int) -> Float32[np.ndarray, "members steps 4"]:
        """Tabulate rate, decay, root and momentum of each step, as `fused_tables.tabulate_schedule` does."""
        steps = -(-self.num_train // self.batch)[:, None]
        step = (epoch - 1) * steps + np.arange(steps.max())
        total, schedule = self.epochs * steps, self.schedule[:, None]
        rate = self.lr[:, None] * scale_rate(schedule, step, total)
        share = find_momentum(self.optimizer, schedule, step, total)
        decay = np.broadcast_to(self.decay[:, None], rate.shape)
        if self.optimizer == "adamw":
            decay = 1 - rate * decay
        if self.optimizer in ("adam", "adamw"):
            rate, share = rate / (1 - share ** (step + 1.0)), 1 - share
        root = (1 - 0.999 ** (step + 1.0)) ** -0.5
        return np.stack([rate, decay, root, share], axis=2).astype(np.float32)

    def lay_orders(self, orders: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Upload the image numbers and labels of each member's training images in an order."""
        order = np.zeros((len(orders), int(self.num_train.max())), np.int32)
        labels = np.zeros_like(order)
        for row, part in enumerate(orders):
            order[row, : len(part)], labels[row, : len(part)] = part, self.labels[row][part]
        return self.upload(order), self.upload(labels)

    def train_epoch(self, epoch: int) -> Means | None:
        """Take the members through their images once; epochs count from 1.

        Returns:
            Loss and accuracy of each member on these images, each before its batch's step; None if not asked for.
        """
        order, labels = self.lay_orders(
            [draw_order(int(s), epoch, part) for s, part in zip(self.seed, self.subsets, strict=True)]
        )
        schedule = self.upload(self.tabulate_schedule(epoch))
        counts, scratch, result = self.upload(self.tabulate_counts(epoch)), self.make_scratch(), self.make_result()
        self.train[(len(self.members),)](
            self.tables["train"][0], order, labels, counts, schedule, self.words, self.state, scratch, result,
            order.shape[1], schedule.shape[1], self.room,
        )  # fmt: skip
        return average_answers(result, self.num_train) if self.metrics == "during" else None

    def make_scratch(self) -> Tensor:
        """Make room for what a batch of each member leaves between phases."""
        return torch.empty(self.scratch_size, device=self.device)

    def make_result(self) -> Tensor:
        """Make room for each member's summed loss and right answers."""
        return torch.empty(len(self.members), 2, dtype=torch.float64, device=self.device)

    def measure(self, trained: Means | None) -> dict[str, Float32[np.ndarray, " members"]]:
        """Measure loss and accuracy on all three splits, but where the epoch told those on training images."""
        properties = {}
        for split in SPLITS:
            loss, accuracy = trained if trained and split == "train" else self.measure_split(split)
            properties |= {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        return properties

    def measure_split(self, split: str) -> Means:
        """Measure loss and accuracy on a split; of the training images on those that each member uses."""
        pixels, true = self.tables[split]
        counts = self.tabulate_counts(0)
        if split == "train":
            (order, labels), stride = self.seen, self.seen[0].shape[1]
        else:
            counts[:, 0], stride = len(true), 0
            order, labels = self.upload(np.arange(len(true), dtype=np.int32)), self.upload(true.astype(np.int32))
        result = self.make_result()
        self.evaluate[(len(self.members),)](
            pixels, order, labels, self.upload(counts), self.state, self.make_scratch(), result, stride, self.room
        )
        return average_answers(result, counts[:, 0])


def average_answers(result: Float64[Tensor, "members 2"], number: Int[np.ndarray, " members"]) -> Means:
    """Turn each member's sums over so many images into mean loss and accuracy."""
    loss, accuracy = (result.cpu().numpy() / number[:, None]).T
    return loss.astype(np.float32), (accuracy + 0 * loss).astype(np.float32)  # not-a-number stays visible
