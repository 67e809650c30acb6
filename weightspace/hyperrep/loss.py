"""What the autoencoder minimises: reconstruction of both views, and contrast between networks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.hyperrep.config import LossConfig, Normalization
from weightspace.hyperrep.kinds import KINDS, PADDING
from weightspace.layout import Layout

LEAST_POWER = 0.01
"""Floor of the mean square that an error is divided by, in units of the standardised weights."""
LEAST_SPREAD = 1e-4
"""Floor of a layer's spread over all networks. Source: the 2022 code (def_loss.py)."""


def number_groups(
    positions: Int64[Tensor, "*batch tokens 3"], normalization: Normalization
) -> Int64[Tensor, "*batch tokens kinds"]:
    """Number the group that a token's weights, biases and buffers are normalised with."""
    token, layer, _ = positions.unsqueeze(-1).expand(*positions.shape, len(KINDS)).unbind(-2)
    match normalization:
        case "token":
            return token - token.min()
        case "layer" | "spread":
            return layer
        case "tensor":
            return layer * len(KINDS) + torch.arange(len(KINDS), device=layer.device)
        case _:
            return torch.zeros_like(layer)


def measure_spreads(layout: Layout, weights: Float[Tensor, "networks weights"]) -> Float[Tensor, " layers"]:
    """Measure the standard deviation of each layer's numbers, weights and biases alike, over all networks.

    Source: the 2022 code (def_loss.py, `set_normalization`); unbiased, not below `LEAST_SPREAD`.
    """
    parts = [weights[:, layout.layer_slice(layer)] for layer in range(layout.num_layers)]
    return torch.stack([part.double().std() for part in parts]).clamp_min(LEAST_SPREAD).to(weights.dtype)


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
    spreads: Float[Tensor, " layers"] | None,
) -> Float[Tensor, "batch groups"]:
    """Return what a squared error costs in each group; an output of zeros then costs 1 in all, if normalised.

    Args:
        spreads: of each layer, as `measure_spreads` finds them; None where the normalisation is another.

    Source: Schürholt et al. 2022 (arXiv 2209.14733), layer-wise loss normalisation, for `spread`, with `numbers` as
    `global_mean` and `groups` as `layer_mean` (over the number of layers); MultiZoo (arXiv 2504.10141) for `batch`,
    WeightCLIP (arXiv 2607.03551) for `window`.
    Differs: `batch` divides by the mean square, MultiZoo by the variance; the two are the same where the mean is 0.
    """
    counts = sum_groups(torch.ones_like(target), kinds, groups)
    squares = sum_groups(target.square(), kinds, groups)
    if rules.normalization == "none":
        power = torch.ones_like(squares)
    elif rules.normalization == "spread":
        assert spreads is not None
        power = spreads[: counts.shape[1]].square()
    elif rules.normalization == "batch":
        power = (squares.sum() / counts.sum()).clamp_min(LEAST_POWER)
    else:
        power = (squares / counts.clamp_min(1)).clamp_min(LEAST_POWER)
    weighed = counts if rules.balance == "numbers" else (counts > 0).to(counts.dtype)
    return weighed / weighed.sum(1, keepdim=True) / counts.clamp_min(1) / power


def measure_reconstruction(
    output: Float[Tensor, "batch tokens d_token"],
    target: Float[Tensor, "batch tokens d_token"],
    kinds: Int64[Tensor, "*batch tokens d_token"],
    positions: Int64[Tensor, "*batch tokens 3"],
    rules: LossConfig,
    spreads: Float[Tensor, " layers"] | None = None,
) -> Float[Tensor, ""]:
    """Return the normalised squared error over real numbers, each network counting the same.

    Args:
        spreads: needed where the normalisation is `spread`.
    """
    groups = number_groups(positions, rules.normalization)
    errors = sum_groups((output - target).square(), kinds, groups)
    losses = (errors * weigh_groups(target, kinds, groups, rules, spreads)).sum(1)
    if rules.padding == "counted":
        losses = losses * (kinds != PADDING).to(losses.dtype).mean((-2, -1))
    return losses.mean()


def measure_contrast(
    first: Float[Tensor, "batch d_projection"], second: Float[Tensor, "batch d_projection"], rules: LossConfig
) -> Float[Tensor, ""]:
    """Return how badly the two views of each network go together, in the way that the configuration says."""
    match rules.contrast:
        case "nt_xent":
            return measure_nt_xent(first, second, rules.temperature)
        case "positive":
            return 1 - F.cosine_similarity(first, second).mean()
        case "released":
            return measure_released_positive(first, second, rules.temperature)


def measure_nt_xent(
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


def measure_released_positive(
    first: Float[Tensor, "batch d_projection"], second: Float[Tensor, "batch d_projection"], temperature: float
) -> Float[Tensor, ""]:
    """Return the 2021 code's positive-only loss: least where the two views of a network are at a right angle.

    A replica of a defect, to measure what it does. Source: the 2021 and 2022 code (def_loss.py, `NT_Xent_pos`).
    """
    similarity = F.cosine_similarity(first, second) / temperature
    return similarity.square().mean() / (2 * len(first))
