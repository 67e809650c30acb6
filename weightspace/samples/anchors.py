"""Choose the checkpoints that sampling starts from, by validation images alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from weightspace.config import BadInput
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.lookup import find_checkpoints
from weightspace.embeddings.scores import read_activations
from weightspace.samples.config import SamplesConfig
from weightspace.weights.weight_data import WeightData


@dataclass(frozen=True)
class Anchors:
    """Trained checkpoints with their latents."""

    table: pd.DataFrame
    """Best first: member, epoch, activation, init (empty where it is not known) and what else the data set says."""
    weights: Float32[np.ndarray, "anchors weights"]
    latents: Float32[np.ndarray, "anchors tokens d_latent"]

    @property
    def groups(self) -> dict[str, Int64[np.ndarray, " group"]]:
        """Number the anchors of each activation, the activations in alphabetical order."""
        activation = self.table["activation"].to_numpy(str)
        return {str(name): np.flatnonzero(activation == name) for name in np.unique(activation)}

    def select(self, rows: Int64[np.ndarray, " rows"]) -> "Anchors":
        """Keep some, in the order of the rows."""
        return Anchors(self.table.iloc[rows].reset_index(drop=True), self.weights[rows], self.latents[rows])


def gather_anchors(config: SamplesConfig, data: WeightData, embeddings: Embeddings, split: str) -> Anchors:
    """Take the best checkpoints of one side of the split, with their latents.

    Raises:
        BadInput: there are none, they cannot be ranked or run, or they have no embeddings.
    """
    rows = rank_checkpoints(data, config.weights, split, config.anchors.epochs)
    return take_checkpoints(config, data, embeddings, rows[: math.ceil(config.anchors.top_fraction * len(rows))])


def rank_checkpoints(
    data: WeightData, name: str, split: str, epochs: Literal["last", "all"]
) -> Int64[np.ndarray, " rows"]:
    """Order the checkpoints of one side of the data set `name` by validation accuracy, best first.

    Test images have no say. Diverged ones are left out, those whose validation accuracy is not known, and with `last`
    those from before the data set's last epoch.

    Raises:
        BadInput: there are none, or it is known of none.
    """
    table = data.checkpoints.table
    rows, epoch = data.rows(split), table["epoch"].to_numpy()
    if epochs == "last":
        rows = rows[epoch[rows] == epoch.max()]
    if not len(rows):
        raise BadInput(f"weights {name}: no trained checkpoint on side {split}, wanted at least one")
    score = table["val_accuracy"].to_numpy()[rows] if "val_accuracy" in table else np.full(len(rows), np.nan)
    known = np.isfinite(score)
    if not known.any():
        raise BadInput(
            f"weights {name}: val_accuracy is not known of any checkpoint on side {split}, wanted it to find the best; "
            "take a zoo that tells it"
        )
    rows, score = rows[known], score[known]
    member = table["member"].to_numpy(str)[rows]
    return rows[np.lexsort((epoch[rows], member, -score))]


def take_checkpoints(
    config: SamplesConfig, data: WeightData, embeddings: Embeddings, rows: Int64[np.ndarray, " rows"]
) -> Anchors:
    """Take rows of a weight data set with their latents.

    Raises:
        BadInput: one has no embedding, or an activation that cannot be run.
    """
    chosen = data.checkpoints.select(rows)
    init = chosen.table["init"].astype("str").fillna("") if "init" in chosen.table else ""
    table = chosen.table.assign(activation=read_activations(chosen, config.weights), init=init)
    places = find_checkpoints(table, embeddings.table, config.embeddings)
    return Anchors(table, chosen.weights, embeddings.take_tokens(places, f"embeddings {config.embeddings}"))


def share_samples(sizes: Sequence[int], num: int) -> list[int]:
    """Share a number among groups in proportion to their sizes; what rounding leaves goes to the largest remainders."""
    exact = [num * size / sum(sizes) for size in sizes]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: num - sum(shares)]:
        shares[i] += 1
    return shares


def assign_groups(anchors: Anchors, num: int, generator: np.random.Generator) -> list[Int64[np.ndarray, " group"]]:
    """Give each sample the anchors of one activation, in random order, so that no mixture of activations is decoded."""
    groups = list(anchors.groups.values())
    shares = share_samples([len(group) for group in groups], num)
    numbers = np.repeat(np.arange(len(groups)), shares)
    return [groups[i] for i in generator.permutation(numbers)]


def draw_anchors(anchors: Anchors, num: int, generator: np.random.Generator) -> Int64[np.ndarray, " num"]:
    """Draw an anchor for each sample, with replacement."""
    return np.array([generator.choice(group) for group in assign_groups(anchors, num, generator)])


def draw_distinct(anchors: Anchors, num: int, generator: np.random.Generator) -> Int64[np.ndarray, " some"]:
    """Draw at most `num` anchors, no member twice, shared among activations as the anchors' members are.

    Of a member with several anchors, only the best is drawn: they are too alike to count as independent.
    """
    best = ~anchors.table["member"].duplicated().to_numpy()
    groups = [group[best[group]] for group in anchors.groups.values()]
    shares = share_samples([len(group) for group in groups], min(num, int(best.sum())))
    parts = [generator.permutation(group)[:share] for group, share in zip(groups, shares, strict=True)]
    return generator.permutation(np.concatenate(parts))
