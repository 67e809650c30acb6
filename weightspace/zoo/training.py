"""The seam between a zoo and what trains it: members and images in, trajectory out."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64, UInt64

from weightspace.images.image_set import SPLITS, PreparedImages
from weightspace.networks import Activation
from weightspace.zoo.config import TrainMetrics
from weightspace.zoo.kinds import Network

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "one_cycle", "cosine"]
Augmentation = Literal["none", "flip", "crop", "rotate", "crop_flip", "crop_rotate", "flip_rotate", "crop_flip_rotate"]
ROOM_BYTES = 256 * 2**20
"""Weights of a trajectory that are kept in memory."""
ZEROS_BYTES = 2**20
"""Written at once where a system has no other way to take room on a disk."""
PROPERTIES = tuple(f"{split}_{measure}" for split in SPLITS for measure in ("loss", "accuracy"))


@dataclass(frozen=True)
class Recipe:
    """How members train that share one kernel; what differs from member to member is an array."""

    activation: Activation | None
    """None: networks have their own."""
    optimizer: Optimizer | np.ndarray
    """torch's semantics and defaults; SGD with momentum 0.9. A word a member for the fused engines only."""
    batch_size: int | Int[np.ndarray, " members"]
    """A number a member for the fused engine only.

    The last batch of an epoch may be smaller; its loss is the mean over the images it has."""
    seed: Int64[np.ndarray, " members"]
    """Decides batch order, training subset and dropout, and nothing else does."""
    lr: Float[np.ndarray, " members"]
    weight_decay: Float[np.ndarray, " members"]
    dropout: Float[np.ndarray, " members"]
    """Probability that a unit is dropped, 0 to below 1."""
    num_train: Int[np.ndarray, " members"]
    """How many training images each member uses."""
    schedule: Schedule | np.ndarray = "constant"
    """How the learning rate goes over all steps, and with one-cycle the momentum; one for all or a word a member."""
    label_noise: float | Float[np.ndarray, " members"] = 0.0
    """Share of its training images that a member sees with a wrong label."""
    augmentation: Augmentation = "none"
    """What changes training images anew in each epoch, in this order: a crop at a random place of the image with 4
    pixels of black around it, a mirror image for every other one, a rotation by up to 20 degrees either way."""
    train_metrics: TrainMetrics = "after"
    """Whether `train_*` are of the network after each epoch, or of its batches during the epoch."""


@dataclass(frozen=True)
class Trajectory:
    """What training leaves: every member's weights and properties after each epoch, epoch 0 first."""

    weights: Float32[np.ndarray, "members checkpoints weights"]
    properties: dict[str, Float32[np.ndarray, "members checkpoints"]]
    """By `PROPERTIES`; `train_*` over the images the member trains on with the labels it sees. `after` each epoch they
    are without dropout; `during` it, means over images as they were learned from, each before its batch's step, with
    dropout and augmentation."""

    def keep(
        self,
        rows: Int64[np.ndarray, " some"],
        epoch: int,
        weights: Float32[np.ndarray, "some weights"],
        properties: Mapping[str, Float32[np.ndarray, " some"]],
    ) -> None:
        """Enter the checkpoints of some members, by their rows."""
        self.weights[rows, epoch] = weights
        for name, values in properties.items():
            self.properties[name][rows, epoch] = values


def make_trajectory(
    members: int, checkpoints: int, weights: int, folder: Path | None = None, names: Sequence[str] = PROPERTIES
) -> Trajectory:
    """Make room for a trajectory: weights in memory or, where there are many and a folder is given, on its disk.

    What lies on the disk is in a file without a name, which is gone with the process, and mapped: the system keeps as
    much of it in memory as nobody else needs.

    Raises:
        OSError: the disk is full.
    """
    shape = (members, checkpoints, weights)
    size = 4 * members * checkpoints * weights
    if folder is None or size <= ROOM_BYTES:
        room = np.empty(shape, np.float32)
    else:
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve_room(file, size)
            room = np.memmap(file, np.float32, "r+", shape=shape)
    return Trajectory(room, {name: np.empty(shape[:2], np.float32) for name in names})


def reserve_room(file: IO[bytes], size: int) -> None:
    """Take room on the disk for so many bytes at once: a mapped page that a full disk cannot give ends a process.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    # macOS has no such call.
    for start in range(0, size, ZEROS_BYTES):
        file.write(bytes(min(ZEROS_BYTES, size - start)))
    file.flush()


class Keep(Protocol):
    """Take over what an engine has made, at once: it goes on with the same memory."""

    def __call__(
        self,
        rows: Int64[np.ndarray, " some"],
        epoch: int,
        weights: Float32[np.ndarray, "some weights"],
        properties: Mapping[str, Float32[np.ndarray, " some"]],
    ) -> None:
        """Keep the checkpoints that an epoch leaves of some members, by their rows in the engine's call."""
        ...


class TrainMembers(Protocol):
    """Train members that share a recipe.

    A member's trajectory depends on its own initial weights, seed and factors, not on its neighbours.
    A member whose numbers stop being finite goes on as not-a-number and disturbs nobody.
    """

    def __call__(
        self,
        architecture: Network,
        recipe: Recipe,
        initial: Float32[torch.Tensor, "members weights"],
        images: PreparedImages,
        epochs: int,
        device: torch.device,
        keep: Keep,
    ) -> None:
        """Train from `initial`; hand each member to `keep` after each epoch, as soon as that is done, epoch 0 first."""
        ...


STREAM_INIT, STREAM_SUBSET, STREAM_ORDER, STREAM_LABELS, STREAM_AUGMENT = range(5)
START_SHARE, END_SHARE, RISE = 1 / 25, 1e-4, 0.3
"""Of a one-cycle schedule: its first rate over its peak, its last over its first, the part of its steps that rise."""
MOST_MOMENTUM, LEAST_MOMENTUM = 0.95, 0.85
"""Of a one-cycle schedule: at both its ends, and where the rate is highest."""


def seed_generator(seed: int, *stream: int) -> np.random.Generator:
    """Make the generator of one member and one purpose; the same numbers on every machine and in every engine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *stream])))


def draw_subset(seed: int, num_train: int, num_images: int) -> Int64[np.ndarray, " num_train"]:
    """Choose which training images a member uses."""
    if num_train == num_images:
        return np.arange(num_images)
    return np.sort(seed_generator(seed, STREAM_SUBSET).permutation(num_images)[:num_train])


def draw_order(seed: int, epoch: int, subset: Int64[np.ndarray, " num_train"]) -> Int64[np.ndarray, " num_train"]:
    """Order a member's training images for one epoch, counted from 1."""
    return seed_generator(seed, STREAM_ORDER, epoch).permutation(subset)


def draw_labels(
    seed: int, labels: Int64[np.ndarray, " images"], subset: Int64[np.ndarray, " num_train"], noise: float, classes: int
) -> Int64[np.ndarray, " images"]:
    """Give a share of the images that a member uses another class each, all others as likely."""
    generator = seed_generator(seed, STREAM_LABELS)
    chosen = generator.permutation(subset)[: round(noise * len(subset))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + generator.integers(1, classes, len(chosen))) % classes
    return noisy


def scale_rate(
    schedule: Schedule | np.ndarray, step: Int[np.ndarray, "*steps"], total: Int[np.ndarray, "*#steps"]
) -> Float[np.ndarray, "*steps"]:
    """Return what a schedule multiplies the learning rate by at each step, counted from 0, of a total number.

    Source: torch's OneCycleLR and CosineAnnealingLR (down to 0) with their default settings.
    """
    one_cycle = follow_cycle(START_SHARE, 1.0, START_SHARE * END_SHARE, step, total)
    cosine = anneal(1.0, 0.0, step / total)
    return np.select([np.equal(schedule, "one_cycle"), np.equal(schedule, "cosine")], [one_cycle, cosine], 1.0)


def find_momentum(
    optimizer: Optimizer | np.ndarray,
    schedule: Schedule | np.ndarray,
    step: Int[np.ndarray, "*steps"],
    total: Int[np.ndarray, "*#steps"],
) -> Float[np.ndarray, "*steps"]:
    """Return the momentum at each step, with Adam and AdamW the first of the betas: what the first moment keeps.

    Source: torch.optim's defaults (SGD with 0.9), and its OneCycleLR, which lets either go down as the rate goes up. It
    does so with RMSprop, too, which has none by itself.
    """
    cycled = follow_cycle(MOST_MOMENTUM, LEAST_MOMENTUM, MOST_MOMENTUM, step, total)
    plain = np.where(np.equal(optimizer, "rmsprop"), 0.0, 0.9)
    return np.where(np.equal(schedule, "one_cycle"), cycled, plain)


def follow_cycle(
    first: float, top: float, last: float, step: Int[np.ndarray, "*steps"], total: Int[np.ndarray, "*#steps"]
) -> Float[np.ndarray, "*steps"]:
    """Go from a first number to that at the peak of a one-cycle schedule, and on to a last one."""
    peak, end = RISE * total - 1, total - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):  # of the half that is not taken
        rising, falling = anneal(first, top, step / peak), anneal(top, last, (step - peak) / (end - peak))
    return np.where(step <= peak, rising, falling)


def anneal(start: float, stop: float, share: Float[np.ndarray, "*steps"]) -> Float[np.ndarray, "*steps"]:
    """Go from one number to another along half a cosine."""
    return stop + (start - stop) / 2 * (1 + np.cos(np.pi * share))


def batch_bounds(num_train: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield where each batch of an epoch starts and stops."""
    for start in range(0, num_train, batch_size):
        yield start, min(start + batch_size, num_train)


def mix_bits(x: UInt64[np.ndarray, "*shape"] | np.uint64) -> UInt64[np.ndarray, "*shape"]:
    """Scramble 32-bit numbers held in uint64, each bit of the result depending on each bit given.

    Source: C. Wellons, the `lowbias32` integer hash (public domain constants).
    """
    low, mid, high = np.uint64(0xFFFFFFFF), np.uint64(15), np.uint64(16)
    x = x & low
    x = ((x ^ (x >> high)) * np.uint64(0x7FEB352D)) & low
    x = ((x ^ (x >> mid)) * np.uint64(0x846CA68B)) & low
    return np.asarray(x ^ (x >> high))


def draw_keep(
    seed: UInt64[np.ndarray, "*#shape"],
    step: int,
    image: UInt64[np.ndarray, "*#shape"],
    unit: UInt64[np.ndarray, "*#shape"],
    dropout: Float[np.ndarray, "*#shape"],
) -> Bool[np.ndarray, "*#shape"]:
    """Decide which units survive dropout, each with probability `1 - dropout`; arguments broadcast.

    Counter-based, so that an engine can compute it anywhere. Unit `u` (flat, channels first) of block `b` has the
    number `b << 16 | u`; steps count from 0 over all epochs, images from 0 within their batch.
    """
    key = mix_bits(mix_bits(mix_bits(seed) + np.uint64(step)) + image)
    return mix_bits(key + unit) >= np.round(dropout * 2.0**32).astype(np.uint64)
