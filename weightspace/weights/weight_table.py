"""Use a weight data set of any size: all but the weights is read, and weights as they are asked for."""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from weightspace.layout import Layout
from weightspace.store import StoredWeights, choose_parts, find_weights, read_table
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import check_sides, choose_layout, find_rows, read_preprocessing

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class WeightTable:
    """A weight data set of one layout, of which weights stay on disk.

    Rows that are stored together are decoded together, about 1 MiB at once, and the last ones used are kept.
    """

    layout: Layout
    table: pd.DataFrame
    """One row a checkpoint; `split` is `train`, `val` or `test`."""
    about: dict[str, Any]
    statistics: Statistics
    reference: Float32[Tensor, " weights"]
    """What members were aligned to."""
    weights: StoredWeights
    cache_bytes: int
    """Decoded weights that are kept at most, beside what one call needs."""
    cache: OrderedDict[int, Float32[np.ndarray, "rows weights"]] = field(default_factory=OrderedDict, repr=False)
    """The least recently used row group first."""

    def rows(self, split: str) -> Int64[np.ndarray, " rows"]:
        """Number the rows of one side of the split that can be learnt from: those that have not diverged."""
        return find_rows(self.table, split)

    def read(self, rows: Int64[np.ndarray, " rows"]) -> Float32[Tensor, "rows weights"]:
        """Read the weights of some rows, in any order; not for use by several threads at once.

        Raises:
            BadInput: a part cannot be read, or a row has more or fewer weights than its layout says.
        """
        out = torch.empty(len(rows), self.layout.num_weights)
        groups = self.weights.find_groups(rows)
        numbers = np.unique(groups)
        for some in np.array_split(numbers, max(1, -(-len(numbers) // self.groups_at_once))):
            for number, values in self.decode(some.tolist()).items():
                here = np.flatnonzero(groups == number)
                out.numpy()[here] = values[rows[here] - self.weights.groups[number].start]
        return out

    @property
    def groups_at_once(self) -> int:
        """Count the row groups that the cache holds."""
        largest = max((group.stop - group.start for group in self.weights.groups), default=1)
        return max(1, self.cache_bytes // (4 * self.layout.num_weights * largest))

    def decode(self, numbers: list[int]) -> dict[int, Float32[np.ndarray, "rows weights"]]:
        """Return some row groups, decoding those that are not at hand, side by side."""
        missing = [number for number in numbers if number not in self.cache]
        if missing:
            with ThreadPoolExecutor(min(pa.cpu_count(), len(missing))) as pool:
                self.cache.update(zip(missing, pool.map(self.weights.read_group, missing), strict=True))
        for number in numbers:
            self.cache.move_to_end(number)
        found = {number: self.cache[number] for number in numbers}
        while len(self.cache) > self.groups_at_once:
            self.cache.popitem(last=False)
        return found

    def shuffle(self, rows: Int64[np.ndarray, " rows"], generator: np.random.Generator) -> Int64[np.ndarray, " rows"]:
        """Put rows in a random order in which batches find what they need at hand: each row group is decoded once.

        Row groups are shuffled, dealt to windows that fill half the cache, and rows are shuffled within a window. Where
        the cache holds all of them, every order of rows is as likely.
        """
        groups = self.weights.find_groups(rows)
        numbers = generator.permutation(np.unique(groups))
        window = max(1, len(numbers) if len(numbers) <= self.groups_at_once else self.groups_at_once // 2)
        turns = np.empty(len(self.weights.groups), np.int64)
        turns[numbers] = np.arange(len(numbers)) // window
        return rows[np.lexsort((generator.random(len(rows)), turns[groups]))]


def open_weight_data(folder: Path, layout: str | None = None, cache_bytes: int = CACHE_BYTES) -> WeightTable:
    """Open a weight data set of any size.

    Args:
        layout: name of the layout to read; None where the data set has but one.
        cache_bytes: decoded weights that are kept at most; changes the time, not the result of a read.

    Raises:
        BadInput: a file is missing or cannot be read, or there are several layouts and none is named.
    """
    found, table, about = read_table(folder, layout)
    check_sides(folder, table)
    statistics, reference = read_preprocessing(folder, choose_layout(folder, layout))
    weights = find_weights(choose_parts(folder, layout), found.num_weights)
    return WeightTable(found, table, about, statistics, reference, weights, cache_bytes)
