"""Tables that the fused CPU engine's loops read: images, rows of lanes, and what each step multiplies."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32, Int64, UInt32

from weightspace.zoo.fused_vectors import LANES
from weightspace.zoo.training import Recipe, find_momentum, mix_bits, scale_rate

UNUSED = -1
LINE = 16
"""Numbers in a cache line."""
NUM_FACTORS = 4
"""Of a row of a schedule: rate, decay, root and momentum; then come the optimizers."""


def make_vectors(*shape: int) -> Float32[np.ndarray, "*shape lanes"]:
    """Make a table of vectors, zero, that starts where a cache line does."""
    size = int(np.prod(shape)) * LANES
    raw = np.zeros(size + LINE, np.float32)
    start = -raw.ctypes.data // raw.itemsize % LINE
    return raw[start : start + size].reshape(*shape, LANES)


@dataclass(frozen=True)
class ImageTable:
    """Images of one split as rows of numbers, padded to a multiple of the lanes, with labels."""

    pixels: Float32[np.ndarray, "images width"]
    labels: Int32[np.ndarray, " images"]


def pad_width(num_pixels: int) -> int:
    """Return how wide rows are that hold so many numbers: a multiple of the lanes."""
    return -(-num_pixels // LANES) * LANES


def lay_pixels(images: torch.Tensor) -> Float32[np.ndarray, "images width"]:
    """Lay images out for the kernels."""
    flat = images.detach().cpu().flatten(1).numpy()
    pixels = np.zeros((len(flat), pad_width(flat.shape[1])), np.float32)
    pixels[:, : flat.shape[1]] = flat
    return pixels


def make_table(images: torch.Tensor, labels: torch.Tensor) -> ImageTable:
    """Lay images and their labels out for the kernels."""
    return ImageTable(lay_pixels(images), labels.cpu().numpy().astype(np.int32))


def lay_rows(parts: list[Int64[np.ndarray, " _"]]) -> Int32[np.ndarray, "rows lanes"]:
    """Put each lane's image numbers into a column; short ones end in zeros."""
    order = np.zeros((max(map(len, parts)), len(parts)), np.int32)
    for lane, part in enumerate(parts):
        order[: len(part), lane] = part
    return order


@dataclass(frozen=True)
class Lanes:
    """The factors of a group of members, lane by lane."""

    seed: Int64[np.ndarray, " lanes"]
    optimizer: np.ndarray
    batch_size: Int[np.ndarray, " lanes"]
    lr: np.ndarray
    weight_decay: np.ndarray
    dropout: np.ndarray
    num_train: Int[np.ndarray, " lanes"]
    schedule: np.ndarray
    label_noise: np.ndarray

    @property
    def steps(self) -> Int[np.ndarray, " lanes"]:
        """Count the steps of an epoch."""
        return -(-self.num_train // self.batch_size)

    @property
    def optimizers(self) -> list[str]:
        """List the optimizers that some lane has."""
        return sorted(set(self.optimizer.tolist()))


def select_lanes(recipe: Recipe, rows: Int64[np.ndarray, " lanes"]) -> Lanes:
    """Take members' factors out of a recipe; what the recipe says once holds for each."""

    def pick(value: object) -> np.ndarray:
        return np.broadcast_to(np.asarray(value), len(recipe.seed))[rows]

    return Lanes(**{name: pick(getattr(recipe, name)) for name in (field.name for field in fields(Lanes))})


def tabulate_shares(lanes: Lanes) -> Float32[np.ndarray, "rows lanes"]:
    """Tabulate 1 / size of the batch that each row's image belongs to."""
    row = np.arange(lanes.num_train.max())[:, None]
    start = row // lanes.batch_size * lanes.batch_size
    return (1 / np.clip(lanes.num_train - start, 1, lanes.batch_size)).astype(np.float32)


def find_ends(lanes: Lanes) -> Bool[np.ndarray, "rows lanes"]:
    """Find the rows that complete a batch of a lane."""
    row = np.arange(1, lanes.num_train.max() + 1)[:, None]
    return (row <= lanes.num_train) & ((row % lanes.batch_size == 0) | (row == lanes.num_train))


def tabulate_schedule(
    lanes: Lanes, epoch: int, epochs: int
) -> tuple[Int64[np.ndarray, " rows"], Float32[np.ndarray, "events numbers lanes"]]:
    """Tabulate after which rows lanes take steps (`UNUSED` elsewhere), and with which numbers.

    Returns:
        For each row the number of its event, and for each event rate, decay, root, share of the first moment that stays
        (of the gradient that enters, with Adam), and a 1 for each optimizer's lanes.
    """
    ends = find_ends(lanes)
    rows = np.flatnonzero(ends.any(1))
    events = np.full(len(ends), UNUSED, np.int64)
    events[rows] = np.arange(len(rows))
    step = (epoch - 1) * lanes.steps + rows[:, None] // lanes.batch_size
    time = step + 1.0
    adaptive = np.isin(lanes.optimizer, ["adam", "adamw"])
    schedule, total = make_vectors(len(rows), NUM_FACTORS + len(lanes.optimizers)), epochs * lanes.steps
    rate = lanes.lr * scale_rate(lanes.schedule, step, total)
    momentum = find_momentum(lanes.optimizer, lanes.schedule, step, total)
    schedule[:, 0] = rate / np.where(adaptive, 1 - momentum**time, 1)
    schedule[:, 1] = np.where(lanes.optimizer == "adamw", 1 - rate * lanes.weight_decay, lanes.weight_decay)
    schedule[:, 2] = (1 - 0.999**time) ** -0.5
    schedule[:, 3] = np.where(adaptive, 1 - momentum, momentum)
    for number, optimizer in enumerate(lanes.optimizers):
        schedule[:, NUM_FACTORS + number] = ends[rows] & (lanes.optimizer == optimizer)
    return events, schedule


def tabulate_keys(lanes: Lanes, epoch: int) -> UInt32[np.ndarray, "rows lanes"]:
    """Hash seed, step and image for each row, as `training.draw_keep` does."""
    row = np.arange(lanes.num_train.max())[:, None]
    step = ((epoch - 1) * lanes.steps + row // lanes.batch_size).astype(np.uint64)
    image = (row % lanes.batch_size).astype(np.uint64)
    return mix_bits(mix_bits(mix_bits(lanes.seed.astype(np.uint64)) + step) + image).astype(np.uint32)


def tabulate_dropout(lanes: Lanes) -> Float32[np.ndarray, "numbers lanes"]:
    """Tabulate the least hash that keeps a unit, as bits, and what a kept unit is multiplied by."""
    table = make_vectors(2)
    table.view(np.uint32)[0] = np.minimum(np.round(lanes.dropout * 2.0**32), 2**32 - 1)
    table[1] = 1 / (1 - lanes.dropout)
    return table
