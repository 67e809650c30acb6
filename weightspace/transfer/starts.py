"""Gather the networks that training starts from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32

from weightspace.config import BadInput
from weightspace.embeddings.scores import read_activations
from weightspace.samples.anchors import rank_checkpoints
from weightspace.store import Checkpoints
from weightspace.transfer.config import TransferConfig
from weightspace.weights.weight_data import WeightData

SOURCES = {"scratch": "random_init", "scratch_sane": "random_init_sane"}
"""Rows of samples that go by another name once they are trained."""


@dataclass(frozen=True)
class Starts:
    """Networks to train on."""

    table: pd.DataFrame
    """row, sample (its number in the row) and activation."""
    weights: Float32[np.ndarray, "starts weights"]


def gather_starts(config: TransferConfig, data: WeightData, samples: Checkpoints) -> Starts:
    """Take the first starting points of each row; samples stand in random order, members with the best first.

    Raises:
        BadInput: the table of samples has no such row, or is of another layout than the weights, or a network has an
            activation that cannot be run.
    """
    if samples.layout != data.checkpoints.layout:
        raise BadInput(f"samples {config.samples}: of another layout than weights {config.weights}, wanted the same")
    tables: list[pd.DataFrame] = []
    weights: list[np.ndarray] = []
    for row in config.rows:
        source = pick_members(config, data) if row == "members" else pick_samples(config, samples, row)
        activation = read_activations(source, config.weights)
        tables.append(pd.DataFrame({"row": row, "sample": np.arange(len(activation)), "activation": activation}))
        weights.append(source.weights)
    return Starts(pd.concat(tables, ignore_index=True), np.concatenate(weights))


def pick_members(config: TransferConfig, data: WeightData) -> Checkpoints:
    """Take the best train members on the zoo's validation images, as they ended.

    Raises:
        BadInput: there are none, or they cannot be ranked.
    """
    return data.checkpoints.select(rank_checkpoints(data, config.weights, "train", "last")[: config.num_per_row])


def pick_samples(config: TransferConfig, samples: Checkpoints, row: str) -> Checkpoints:
    """Take the first samples of one row.

    Raises:
        BadInput: there are none.
    """
    found = np.flatnonzero(samples.table["row"] == SOURCES.get(row, row))
    if not len(found):
        known = ", ".join(samples.table["row"].unique())
        raise BadInput(f"rows: got {row!r}, but samples {config.samples} has only {known}")
    return samples.select(found[: config.num_per_row])
