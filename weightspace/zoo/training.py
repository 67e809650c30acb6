"""The seam between a zoo and what trains it: members and images in, trajectory out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64, UInt64

from weightspace.images.image_set import SPLITS, PreparedImages
from weightspace.networks import Activation, Architecture

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
PROPERTIES = tuple(f"{split}_{measure}" for split in SPLITS for measure in ("loss", "accuracy"))


@dataclass(frozen=True)
class Recipe:
    """How members train that share one kernel; what differs from member to member is an array."""

    activation: Activation
    optimizer: Optimizer
    """torch's semantics and defaults; SGD with momentum 0.9."""
    batch_size: int
    """The last batch of an epoch may be smaller; its loss is the mean over the images it has."""
    seed: Int64[np.ndarray, " members"]
    """Decides batch order, training subset and dropout, and nothing else does."""
    lr: Float[np.ndarray, " members"]
    weight_decay: Float[np.ndarray, " members"]
    dropout: Float[np.ndarray, " members"]
    """Probability that a unit is dropped, 0 to below 1."""
    num_train: Int[np.ndarray, " members"]
    """How many training images each member uses."""


@dataclass(frozen=True)
class Trajectory:
    """What training leaves: every member's weights and properties after each epoch, epoch 0 first."""

    weights: Float32[np.ndarray, "members checkpoints weights"]
    properties: dict[str, Float32[np.ndarray, "members checkpoints"]]
    """By `PROPERTIES`; `train_*` over the images the member trains on, without dropout."""


class TrainMembers(Protocol):
    """Train members that share a recipe.

    A member's trajectory depends on its own initial weights, seed and factors, not on its neighbours.
    A member whose numbers stop being finite goes on as not-a-number and disturbs nobody.
    """

    def __call__(
        self,
        architecture: Architecture,
        recipe: Recipe,
        initial: Float32[torch.Tensor, "members weights"],
        images: PreparedImages,
        epochs: int,
        device: torch.device,
        on_epoch: Callable[[int], None] | None = None,
    ) -> Trajectory:
        """Train from `initial`; call `on_epoch` with the number of each epoch that is done, 0 first."""
        ...


STREAM_INIT, STREAM_SUBSET, STREAM_ORDER = 0, 1, 2


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
