"""Train many members at once on a CPU: side by side in the lanes of vectors, groups on all cores."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

from weightspace.config import BadInput
from weightspace.images.image_set import SPLITS, PreparedImages
from weightspace.networks import Architecture
from weightspace.zoo import fused_driver as driver
from weightspace.zoo import fused_kernels as kernels
from weightspace.zoo.fused_build import compile_driver, compile_kernel
from weightspace.zoo.fused_tables import (
    make_table,
    make_vectors,
    select_lanes,
    tabulate_dropout,
    tabulate_keys,
    tabulate_schedule,
    tabulate_shares,
)
from weightspace.zoo.fused_vectors import LANES
from weightspace.zoo.fused_work import NUM_STATE_TABLES, Work, build_plan
from weightspace.zoo.kinds import Network
from weightspace.zoo.training import Keep, Recipe, draw_labels, draw_order, draw_subset


def train_members_fused(
    architecture: Network,
    recipe: Recipe,
    initial: Float32[torch.Tensor, "members weights"],
    images: PreparedImages,
    epochs: int,
    device: torch.device,
    keep: Keep,
) -> None:
    """Train members that share a recipe; see `training.TrainMembers`. Uses as many threads as torch may.

    Raises:
        BadInput: the device is no CPU, or there is no kernel for the activation, an optimizer or the augmentation.
    """
    assert isinstance(architecture, Architecture), "`train.choose_engine` gives other networks to the torch engine"
    check_support(recipe, device)
    run = Run(architecture, recipe, initial, images, epochs)
    batch_size, optimizer = (np.broadcast_to(v, len(recipe.seed)) for v in (recipe.batch_size, recipe.optimizer))
    order = np.lexsort((optimizer, batch_size, recipe.num_train))
    groups = [Group(run, order[i : i + LANES]) for i in range(0, len(order), LANES)]
    advance_all(run, groups, keep)


def check_support(recipe: Recipe, device: torch.device) -> None:
    """Refuse what there is no kernel for; of these, only augmentation is something that the torch engine does."""
    asked = [(recipe.activation, kernels.ACTIVATIONS, ""), (recipe.augmentation, ("none",), ", or the torch engine")]
    asked += [(name, kernels.OPTIMIZERS, "") for name in np.unique(np.asarray(recipe.optimizer)).tolist()]
    for name, known, other in asked:
        if name not in known:
            words = ", ".join(str(word) for word in known if word)
            raise BadInput(f"engine fused_cpu: got {name!r}, wanted one of {words}{other}")
    if device.type != "cpu":
        raise BadInput(f"engine fused_cpu: got device {device}, wanted cpu; the torch engine runs on any device")


Means = tuple[Float32[np.ndarray, " lanes"], Float32[np.ndarray, " lanes"]]
"""Loss and accuracy."""


@dataclass(frozen=True)
class Training:
    """Compiled code that only training needs: a kernel an optimizer, and the loops over images."""

    updates: dict[str, int]
    train_epoch: Callable[[int], None]
    evaluate: Callable[[int], None]


def compile_training(recipe: Recipe) -> Training:
    """Compile what a recipe needs, or load it from the cache."""
    names = np.unique(np.asarray(recipe.optimizer)).tolist()
    updates = {name: compile_kernel(kernels.write_update(name)) for name in names}
    return Training(updates, compile_driver("train_epoch"), compile_driver("evaluate"))


class Run:
    """One call of the engine: what all groups share."""

    def __init__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        initial: Float32[torch.Tensor, "members weights"],
        images: PreparedImages,
        epochs: int,
    ) -> None:
        self.architecture, self.recipe, self.epochs = architecture, recipe, epochs
        self.initial = initial.detach().cpu().numpy()
        self.plan, self.training = build_plan(architecture, recipe.activation), compile_training(recipe)
        self.tables = {s: make_table(getattr(images, s), getattr(images, f"{s}_labels")) for s in SPLITS}

    def advance(self, group: "Group", epoch: int) -> dict[str, Float32[np.ndarray, " members"]]:
        """Train a group for an epoch (not for epoch 0); return its properties then."""
        work = Work(self.plan, group.state)
        trained = group.train_epoch(epoch, work) if epoch else None
        real, properties = len(group.members), {}
        for split in SPLITS:
            loss, accuracy = trained if trained and split == "train" else group.evaluate(split, work)
            properties |= {f"{split}_loss": loss[:real], f"{split}_accuracy": accuracy[:real]}
        return properties


def advance_all(run: Run, groups: list["Group"], keep: Keep) -> None:
    """Take all groups through all epochs, each as soon as a thread is free; the queue keeps them abreast."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        running = {pool.submit(run.advance, group, 0): (group, 0) for group in groups}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    group, epoch = running.pop(future)
                    keep(group.members, epoch, group.state[0, :, : len(group.members)].T, future.result())
                    if epoch < run.epochs:
                        running[pool.submit(run.advance, group, epoch + 1)] = (group, epoch + 1)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or an interrupt, what has not begun never does


class Group:
    """A member for each lane (the last one repeated to fill up) and their state."""

    def __init__(self, run: Run, members: Int64[np.ndarray, " members"]) -> None:
        self.run, self.members = run, members
        rows = np.concatenate([members, np.repeat(members[-1:], LANES - len(members))])
        self.lanes = select_lanes(run.recipe, rows)
        self.counts = self.lanes.num_train.astype(np.int32)
        num_images = len(run.tables["train"].labels)
        self.subsets = [
            draw_subset(int(seed), int(count), num_images)
            for seed, count in zip(self.lanes.seed, self.counts, strict=True)
        ]
        self.labels = self.draw_labels(run.tables["train"].labels)
        self.state = make_vectors(NUM_STATE_TABLES, run.plan.num_weights)
        self.state[0] = run.initial[rows].T
        self.dropout = tabulate_dropout(self.lanes)
        self.updates = np.array([run.training.updates[name] for name in self.lanes.optimizers])

    def draw_labels(self, labels: Int32[np.ndarray, " images"]) -> Int32[np.ndarray, "images lanes"] | None:
        """Return the training labels that each lane sees; None: all see the true ones."""
        lanes, classes = self.lanes, self.run.architecture.num_classes
        if not lanes.label_noise.any():
            return None
        parts = zip(lanes.seed.tolist(), self.subsets, lanes.label_noise.tolist(), strict=True)
        true = labels.astype(np.int64)
        drawn = [draw_labels(seed, true, subset, share, classes) for seed, subset, share in parts]
        return np.stack(drawn, axis=1).astype(np.int32)

    def train_epoch(self, epoch: int, work: Work) -> Means | None:
        """Take the members through their images once; epochs count from 1.

        Returns:
            Loss and accuracy of each lane on these images, each before its batch's step; None if not asked for.
        """
        lanes = self.lanes
        orders = [draw_order(int(s), epoch, part) for s, part in zip(lanes.seed, self.subsets, strict=True)]
        work.set_rows(self.run.tables["train"], orders, self.counts, self.labels)
        events, schedule = tabulate_schedule(lanes, epoch, self.run.epochs)
        drops = bool(lanes.dropout.any())
        work.set_tables(
            {
                driver.SHARES: tabulate_shares(lanes),
                driver.EVENTS: events,
                driver.SCHEDULE: schedule,
                driver.UPDATES: self.updates,
                driver.KEYS: tabulate_keys(lanes, epoch) if drops else self.dropout,
                driver.DROPOUT: self.dropout,
            }
        )
        work.set_numbers({driver.NUM_UPDATES: len(self.updates), driver.DROPS: drops})
        if self.run.recipe.train_metrics == "after":
            self.run.training.train_epoch(work.job.ctypes.data)
            return None
        return sum_answers(self.run.training.train_epoch, work, self.counts)

    def evaluate(self, split: str, work: Work) -> Means:
        """Measure loss and accuracy of each lane on a split; of the training images on its own."""
        table = self.run.tables[split]
        parts, counts, labels = self.subsets, self.counts, self.labels
        if split != "train":
            parts = [np.arange(len(table.labels))] * LANES
            counts, labels = np.full(LANES, len(table.labels), np.int32), None
        work.set_rows(table, parts, counts, labels)
        work.set_tables({driver.KEYS: self.dropout, driver.DROPOUT: self.dropout})
        return sum_answers(self.run.training.evaluate, work, counts)


def sum_answers(loop: Callable[[int], None], work: Work, counts: Int32[np.ndarray, " lanes"]) -> Means:
    """Run a loop over each lane's images; return its mean loss and its accuracy on them."""
    result = make_vectors(3)
    work.set_tables({driver.RESULT: result})
    loop(work.job.ctypes.data)
    loss, _, right = result / counts.astype(np.float32)
    return loss, right + 0 * loss  # not-a-number stays visible
