"""Measure the mean and spread of each tensor's numbers, and scale by them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from weightspace.layout import Layout

NUMBERS_AT_ONCE = 2**22
"""Weights that are measured in one step, so that memory does not grow with their number."""
StandardizationKind = Literal["none", "tensor", "layer", "robust", "global"]


@dataclass(frozen=True)
class Statistics:
    """What standardisation subtracts and divides by."""

    mean: Float32[Tensor, " tensors"]
    """One for each tensor of the layout: a layer's weight and its bias may share theirs or not."""
    std: Float32[Tensor, " tensors"]
    """Above 0; 1 where all numbers are alike."""

    def standardize(self, layout: Layout, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n weights"]:
        """Subtract the mean and divide by the standard deviation of what was measured."""
        return (weights - spread_tensors(layout, self.mean, weights)) / spread_tensors(layout, self.std, weights)

    def restore(self, layout: Layout, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n weights"]:
        """Undo `standardize`."""
        return weights * spread_tensors(layout, self.std, weights) + spread_tensors(layout, self.mean, weights)


def spread_tensors(
    layout: Layout, values: Float[Tensor, " tensors"], like: Float[Tensor, "*n weights"]
) -> Float[Tensor, " weights"]:
    """Repeat each tensor's value for all its numbers."""
    sizes = torch.tensor([place.size for place in layout.places], device=like.device)
    return values.to(like.device, like.dtype).repeat_interleave(sizes)


@dataclass(frozen=True)
class Moments:
    """Mean and mean square of each tensor of each checkpoint; all that statistics need of them."""

    mean: Float64[Tensor, "checkpoints tensors"]
    square: Float64[Tensor, "checkpoints tensors"]


def measure_moments(layout: Layout, weights: Float[Tensor, "checkpoints weights"]) -> Moments:
    """Measure each tensor of each checkpoint; one that has weights that are not finite is left out."""
    found: list[Moments] = []
    for some in weights.split(max(1, NUMBERS_AT_ONCE // layout.num_weights)):
        finite = some[some.isfinite().all(1)]
        parts = [finite[:, place.offset : place.stop].double() for place in layout.places]
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
    tensors = len(layout.places)
    if kind == "none":
        return Statistics(torch.zeros(tensors), torch.ones(tensors))
    assert len(moments.mean) > 0, "no checkpoint to measure"
    if kind == "robust":
        mean = moments.mean.quantile(0.5, dim=0)
        spread = moments.square - 2 * mean * moments.mean + mean**2
        return make_statistics(mean, spread.quantile(0.5, dim=0))
    share = share_groups(layout, kind)
    mean, square = share @ moments.mean.mean(0), share @ moments.square.mean(0)
    return make_statistics(mean, square - mean**2)


def share_groups(layout: Layout, kind: StandardizationKind) -> Float64[Tensor, "tensors tensors"]:
    """Return what share of a tensor's statistics each tensor has: alone, with its layer, or with all, by its size."""
    sizes = torch.tensor([place.size for place in layout.places], dtype=torch.float64)
    groups = torch.tensor(group_places(layout, kind))
    share = (groups[:, None] == groups) * sizes
    return share / share.sum(1, keepdim=True)


def group_places(layout: Layout, kind: StandardizationKind) -> list[int]:
    """Number the group of tensors that each tensor shares its statistics with.

    Only weights and biases of convolutions and linear layers share. The scale, shift, mean and variance of a norm are
    numbers of four kinds, and each is a group of its own.
    """
    weighty = {place.layer for place in layout.places if place.kind in ("conv", "linear")}
    groups = []
    for number, place in enumerate(layout.places):
        alone = kind == "tensor" or not place.trained or place.layer not in weighty
        groups.append(number if alone else len(layout.places) + (place.layer if kind == "layer" else 0))
    return groups


def make_statistics(mean: Float64[Tensor, " tensors"], variance: Float64[Tensor, " tensors"]) -> Statistics:
    """Round to float32, with scale 1 where there is no spread."""
    std = variance.clamp(min=0).sqrt().float()
    return Statistics(mean.float(), torch.where(std > 0, std, 1.0))


def measure_statistics(
    layout: Layout, weights: Float[Tensor, "checkpoints weights"], kind: StandardizationKind
) -> Statistics:
    """Measure the statistics of some checkpoints: give those of the train members, never others."""
    return pool_moments(layout, measure_moments(layout, weights), kind)
