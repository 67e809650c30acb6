"""Make views of weights on the fly: the same network with its units in another order, noised, or with a gap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from weightspace.layout import Layout
from weightspace.weights.permute import draw_permutations, permute_weights

ERASED = (0.02, 0.33)
"""Shortest and longest block that erasing sets to zero, as parts of the weight vector."""


def make_view(
    layout: Layout,
    weights: Float[Tensor, "num weights"],
    generator: torch.Generator,
    permute: bool,
    noise: float,
    erase: float = 0.0,
) -> Float[Tensor, "num weights"]:
    """Make one view of each row; the weights themselves stay as they are.

    Orders are drawn anew for each batch and applied at once, so that memory does not grow with their number. Noise and
    gaps leave running statistics alone: they are measured, not learnt, and a variance must not fall below 0.

    Args:
        generator: on the device of the weights.
        permute: reorder hidden units, each row by an order of its own; the function stays the same.
        noise: standard deviation of the factor 1 + noise * N(0, 1) on each trained weight; 0 for none.
        erase: probability that a row has a block set to zero.
    """
    trained = layout.mask_trained(weights.device) if layout.has_buffers else None
    if permute:
        weights = permute_weights(layout, weights, draw_permutations(layout, len(weights), generator))
    if noise > 0:
        factor = 1 + noise * torch.randn(weights.shape, generator=generator, device=weights.device)
        weights = weights * (factor if trained is None else factor.where(trained, 1.0))
    if erase > 0:
        weights = erase_blocks(weights, generator, erase, trained)
    return weights


def erase_blocks(
    weights: Float[Tensor, "num weights"],
    generator: torch.Generator,
    erase: float,
    trained: Bool[Tensor, " weights"] | None = None,
) -> Float[Tensor, "num weights"]:
    """Set one contiguous block of some rows to zero, its length and place drawn for each.

    Args:
        trained: numbers that may be erased; None: all.

    Source: Schürholt et al. 2021 (arXiv 2110.15288), erasing augmentation.
    """
    num, length = weights.shape
    device = weights.device
    chance, part, place = torch.rand(3, num, 1, generator=generator, device=device)
    shortest, longest = ERASED
    block = ((shortest + part * (longest - shortest)) * length).long()
    start = (place * (length - block + 1)).long()
    index = torch.arange(length, device=device)
    gone = (index >= start) & (index < start + block) & (chance < erase)
    if trained is not None:
        gone &= trained
    return weights.masked_fill(gone, 0.0)
