"""What the autoencoder minimises: reconstruction of both views, and contrast between networks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.hyperrep.config import LossConfig, Normalization
from weightspace.hyperrep.kinds import KINDS

LEAST_POWER = 0.01
"""Floor of the mean square that an error is divided by, in units of the standardised weights."""


def number_groups(
    positions: Int64[Tensor, "*batch tokens 3"], normalization: Normalization
) -> Int64[Tensor, "*batch tokens kinds"]:
    """Number the group that a token's weights, biases and buffers are normalised with."""
    token, layer, _ = positions.unsqueeze(-1).expand(*positions.shape, len(KINDS)).unbind(-2)
    match normalization:
        case "token":
            return token - token.min()
        case "layer":
            return layer
        case "tensor":
            return layer * len(KINDS) + torch.arange(len(KINDS), device=layer.device)
        case _:
            return torch.zeros_like(layer)


def sum_groups(
    numbers: Float[Tensor, "batch tokens d_token"],
    kinds: Int64[Tensor, "*batch tokens d_token"],
    groups: Int64[Tensor, "*batch tokens kinds"],
) -> Float[Tensor, "batch groups"]:
    """Add up the real numbers of each group."""
    by_kind = torch.stack([numbers.where(kinds == kind, 0).sum(-1) for kind in KINDS], dim=-1)
    groups = groups.expand(by_kind.shape)
    sums = numbers.new_zeros(len(numbers), int(groups.max()) + 1)
    return sums.scatter_add(1, groups.flatten(1), by_kind.flatten(1))


def weigh_groups(
    target: Float[Tensor, "batch tokens d_token"],
    kinds: Int64[Tensor, "*batch tokens d_token"],
    groups: Int64[Tensor, "*batch tokens kinds"],
    rules: LossConfig,
) -> Float[Tensor, "batch groups"]:
    """Return what a squared error costs in each group; an output of zeros then costs 1 in all, if normalised.

    Source: Schürholt et al. 2022 (arXiv 2209.14733), layer-wise loss normalisation, with `numbers` as `global_mean`
    and `groups` as `layer_mean`; MultiZoo (arXiv 2504.10141) for `batch`, WeightCLIP (arXiv 2607.03551) for `window`.
    Differs: a layer is divided by what the network itself has there, not by its spread over all networks.
    """
    counts = sum_groups(torch.ones_like(target), kinds, groups)
    squares = sum_groups(target.square(), kinds, groups)
    if rules.normalization == "none":
        power = torch.ones_like(squares)
    elif rules.normalization == "batch":
        power = squares.sum() / counts.sum()
    else:
        power = squares / counts.clamp_min(1)
    weighed = counts if rules.balance == "numbers" else (counts > 0).to(counts.dtype)
    return weighed / weighed.sum(1, keepdim=True) / counts.clamp_min(1) / power.clamp_min(LEAST_POWER)


def measure_reconstruction(
    output: Float[Tensor, "batch tokens d_token"],
    target: Float[Tensor, "batch tokens d_token"],
    kinds: Int64[Tensor, "*batch tokens d_token"],
    positions: Int64[Tensor, "*batch tokens 3"],
    rules: LossConfig,
) -> Float[Tensor, ""]:
    """Return the normalised squared error over real numbers, each network counting the same.

    Differs: the released code averages over padding too, and takes the noised input as target.
    """
    groups = number_groups(positions, rules.normalization)
    errors = sum_groups((output - target).square(), kinds, groups)
    return (errors * weigh_groups(target, kinds, groups, rules)).sum(1).mean()


def measure_contrast(
    first: Float[Tensor, "batch d_projection"], second: Float[Tensor, "batch d_projection"], temperature: float
) -> Float[Tensor, ""]:
    """Return NT-Xent: how badly a view's other view is told from the views of the other networks of the batch.

    Cross-entropy over the rows of the cosine similarity matrix, its diagonal left out, so that any batch size does.
    Source: Chen et al., SimCLR (arXiv 2002.05709), equation 1.
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    similarity = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    other = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(similarity, other)
