"""Bring the units of networks to the order that a model knows, where a data set has another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from weightspace.hyperrep.hyperrep import Hyperrep, tell_origin
from weightspace.store import Checkpoints
from weightspace.weights.align import match_weights
from weightspace.weights.canonical import sort_units
from weightspace.weights.canonical_config import Sort
from weightspace.weights.config import NoAlignment, WeightMatching
from weightspace.weights.permute import Permutations, keep_places, permute_weights


def has_scale(model: Hyperrep, about: Mapping[str, Any]) -> bool:
    """Tell whether the units of a data set have the scales and signs that a model knows.

    Args:
        about: what all its checkpoints share.
    """
    found = tell_origin(about)
    return model.origin is None or (found is not None and found.canonical == model.origin.canonical)


def has_order(model: Hyperrep, about: Mapping[str, Any], reference: Float32[Tensor, " weights"] | None) -> bool:
    """Tell whether the units of a data set have the order that a model knows, too.

    The networks that two data sets were aligned to count, not how they were chosen: the best member of one need not be
    that of another.

    Args:
        about: what all its checkpoints share.
        reference: what its members were aligned to; None: not known.
    """
    found = tell_origin(about)
    if model.origin is None or found is None or not has_scale(model, about):
        return model.origin is None
    if isinstance(model.origin.alignment, WeightMatching) and isinstance(found.alignment, WeightMatching):
        return reference is not None and torch.equal(reference.cpu(), model.reference.cpu())
    return found.alignment == model.origin.alignment


def find_leaders(table: pd.DataFrame) -> Int64[np.ndarray, " rows"]:
    """Find for each checkpoint its member's last one; checkpoints without epochs stand for themselves."""
    if "epoch" not in table:
        return np.arange(len(table))
    last = table.groupby("member")["epoch"].transform("idxmax")
    return last.to_numpy(np.int64)


def order_units(model: Hyperrep, weights: Float[Tensor, "networks weights"]) -> Permutations:
    """Find how to bring the units of networks to the order that a model knows."""
    layout, origin = model.layout, model.origin
    match NoAlignment(kind="none") if origin is None else origin.alignment:
        case WeightMatching(seed=seed, max_sweeps=max_sweeps):
            return match_weights(layout, weights, model.reference.cpu(), seed, max_sweeps)
        case Sort(key=key):
            return sort_units(layout, weights, key)
        case NoAlignment():
            return keep_places(layout, len(weights), weights.device)


def reorder_checkpoints(model: Hyperrep, checkpoints: Checkpoints) -> Checkpoints:
    """Bring checkpoints to the order of units that a model knows, all of a member as its last one is."""
    weights = torch.from_numpy(checkpoints.weights)
    leaders, place = np.unique(find_leaders(checkpoints.table), return_inverse=True)
    orders = order_units(model, weights[torch.from_numpy(leaders)])
    orders = {name: order[torch.from_numpy(place)] for name, order in orders.items()}
    moved = permute_weights(checkpoints.layout, weights, orders).numpy()
    return Checkpoints(checkpoints.layout, checkpoints.table, moved, checkpoints.about)
