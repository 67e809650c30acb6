"""Measure the mean and spread of each layer's weights, and scale by them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from weightspace.layout import Layout

NUMBERS_AT_ONCE = 2**22
"""Weights that are measured in one step, so that memory does not grow with their number."""
StandardizationKind = Literal["none", "layer", "robust", "global"]


@dataclass(frozen=True)
class Statistics:
    """What standardisation subtracts and divides by."""

    mean: Float32[Tensor, " layers"]
    std: Float32[Tensor, " layers"]
    """Above 0; 1 for a layer whose weights are all alike."""

    def standardize(self, layout: Layout, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n weights"]:
        """Scale each layer to mean 0 and standard deviation 1 over what was measured."""
        return (weights - spread_layers(layout, self.mean, weights)) / spread_layers(layout, self.std, weights)

    def restore(self, layout: Layout, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n weights"]:
        """Undo `standardize`."""
        return weights * spread_layers(layout, self.std, weights) + spread_layers(layout, self.mean, weights)


def spread_layers(
    layout: Layout, values: Float[Tensor, " layers"], like: Float[Tensor, "*n weights"]
) -> Float[Tensor, " weights"]:
    """Repeat each layer's value for all its weights."""
    spans = [layout.layer_slice(layer) for layer in range(layout.num_layers)]
    sizes = torch.tensor([span.stop - span.start for span in spans], device=like.device)
    return values.to(like.device, like.dtype).repeat_interleave(sizes)


@dataclass(frozen=True)
class Moments:
    """Mean and mean square of each layer of each checkpoint; all that statistics need of them."""

    mean: Float64[Tensor, "checkpoints layers"]
    square: Float64[Tensor, "checkpoints layers"]


def measure_moments(layout: Layout, weights: Float[Tensor, "checkpoints weights"]) -> Moments:
    """Measure each layer of each checkpoint; one that has weights that are not finite is left out."""
    found: list[Moments] = []
    for some in weights.split(max(1, NUMBERS_AT_ONCE // layout.num_weights)):
        finite = some[some.isfinite().all(1)]
        parts = [finite[:, layout.layer_slice(layer)].double() for layer in range(layout.num_layers)]
        mean = torch.stack([part.mean(1) for part in parts], dim=1)
        found.append(Moments(mean, torch.stack([part.square().mean(1) for part in parts], dim=1)))
    return join_moments(found)


def join_moments(parts: list[Moments]) -> Moments:
    """Lay the moments of several parts of a data set end to end."""
    return Moments(torch.cat([part.mean for part in parts]), torch.cat([part.square for part in parts]))


def pool_moments(layout: Layout, moments: Moments, kind: StandardizationKind) -> Statistics:
    """Turn the moments of the train checkpoints into statistics.

    Source: Schürholt et al., SANE (arXiv 2406.09997), per-layer standardisation.
    Differs: the spread of the checkpoints' own means counts, so that standardised train weights have variance 1; the
    released code takes the mean of the checkpoints' variances.
    """
    layers = layout.num_layers
    if kind == "none":
        return Statistics(torch.zeros(layers), torch.ones(layers))
    assert len(moments.mean) > 0, "no checkpoint to measure"
    if kind == "robust":
        mean = moments.mean.quantile(0.5, dim=0)
        spread = moments.square - 2 * mean * moments.mean + mean**2
        return make_statistics(mean, spread.quantile(0.5, dim=0))
    mean, square = moments.mean.mean(0), moments.square.mean(0)
    if kind == "global":
        spans = [layout.layer_slice(layer) for layer in range(layers)]
        share = torch.tensor([span.stop - span.start for span in spans], dtype=mean.dtype) / layout.num_weights
        mean, square = (mean @ share).expand(layers), (square @ share).expand(layers)
    return make_statistics(mean, square - mean**2)


def make_statistics(mean: Float64[Tensor, " layers"], variance: Float64[Tensor, " layers"]) -> Statistics:
    """Round to float32, with scale 1 where there is no spread."""
    std = variance.clamp(min=0).sqrt().float()
    return Statistics(mean.float(), torch.where(std > 0, std, 1.0))


def measure_statistics(
    layout: Layout, weights: Float[Tensor, "checkpoints weights"], kind: StandardizationKind
) -> Statistics:
    """Measure the statistics of some checkpoints: give those of the train members, never others."""
    return pool_moments(layout, measure_moments(layout, weights), kind)
