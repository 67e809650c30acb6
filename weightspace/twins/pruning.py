"""Find the smallest numbers of networks."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from weightspace.layout import Layout


def keep_largest(
    weights: Float[Tensor, "members weights"], num_dropped: Int64[Tensor, " members"] | int
) -> Bool[Tensor, "members weights"]:
    """Tell all but the smallest numbers of each member; of equal ones the first are dropped first.

    Args:
        num_dropped: how many to drop, of all members or of each.
    """
    ranks = weights.abs().argsort(dim=1, stable=True).argsort(dim=1)
    return ranks >= torch.as_tensor(num_dropped, device=weights.device).reshape(-1, 1)


def choose_kept(
    layout: Layout,
    weights: Float[Tensor, "members weights"],
    sparsity: float,
    scope: Literal["network", "layer"],
) -> Bool[Tensor, "members weights"]:
    """Tell the numbers that magnitude pruning keeps; it drops the nearest whole number of all, or of each layer."""
    if scope == "network":
        return keep_largest(weights, round(sparsity * layout.num_weights))
    parts = [weights[:, layout.layer_slice(layer)] for layer in range(layout.num_layers)]
    return torch.cat([keep_largest(part, round(sparsity * part.shape[1])) for part in parts], dim=1)
