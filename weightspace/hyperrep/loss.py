"""What the autoencoder minimises: reconstruction of both views, and contrast between networks."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

Normalization = Literal["none", "batch", "window", "layer", "token"]
MIN_POWER = 1e-6
"""Floor of the mean square that an error is divided by, in units of the standardised weights."""


def measure_power(
    target: Float[Tensor, "batch tokens d_token"],
    mask: Bool[Tensor, "*batch tokens d_token"],
    layers: Int64[Tensor, "*batch tokens"],
    normalization: Normalization,
) -> Float[Tensor, "#batch #tokens 1"]:
    """Return the mean square of the real numbers that each token is normalised with.

    They are those of the whole batch, of the network's window, of the network's layer within the window, or of the
    token itself. Source: MultiZoo (arXiv 2504.10141) for `batch`, WeightCLIP (arXiv 2607.03551) for `window`.
    """
    squares = target.square().where(mask, 0).sum(-1)
    counts = mask.sum(-1).expand_as(squares).to(squares.dtype)
    if normalization == "batch":
        return (squares.sum() / counts.sum()).reshape(1, 1, 1)
    if normalization == "window":
        return (squares.sum(1) / counts.sum(1))[:, None, None]
    if normalization == "layer":
        layers = layers.expand(squares.shape)
        sums = squares.new_zeros(2, len(squares), int(layers.max()) + 1)
        sums = sums.scatter_add(2, layers.expand(2, *squares.shape), torch.stack([squares, counts]))
        squares, counts = sums.gather(2, layers.expand(2, *layers.shape))
    return (squares / counts.clamp_min(1)).unsqueeze(-1)


def measure_reconstruction(
    output: Float[Tensor, "batch tokens d_token"],
    target: Float[Tensor, "batch tokens d_token"],
    mask: Bool[Tensor, "*batch tokens d_token"],
    layers: Int64[Tensor, "*batch tokens"],
    normalization: Normalization,
) -> Float[Tensor, ""]:
    """Return the mean squared error over real numbers; padding has no part in it.

    Differs: the released code averages over padding too, and takes the noised input as target.
    """
    errors = (output - target).square()
    if normalization != "none":
        errors = errors / measure_power(target, mask, layers, normalization).clamp_min(MIN_POWER)
    mask = mask.expand_as(errors)
    return errors.where(mask, 0).sum() / mask.sum()


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
