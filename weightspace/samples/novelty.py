"""Measure how far samples are from what they were learnt from, and from each other.

A sample that does well may be a copy. Two networks that differ only in the order of their hidden units are the same
function, so distances are taken between aligned networks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from weightspace.layout import Layout
from weightspace.weights.align import match_weights
from weightspace.weights.permute import permute_weights

SWEEP_SEED = 0
"""Decides in which order layers are matched; a fixed choice, not a draw."""


@dataclass(frozen=True)
class Nearest:
    """The anchor nearest to each sample."""

    anchor: Int64[np.ndarray, " samples"]
    distance: Float64[np.ndarray, " samples"]
    """L2."""


@dataclass(frozen=True)
class Placed:
    """Networks in two orders of their hidden units.

    Neither alone is enough: random networks lie in no order, while aligning a network and a slightly changed copy to
    a third that is far from both may order the two differently.
    """

    as_given: Float32[Tensor, "networks weights"]
    aligned: Float32[Tensor, "networks weights"]
    """To one reference for all."""

    def select(self, rows: Int64[np.ndarray, " rows"]) -> "Placed":
        """Keep some networks."""
        return Placed(self.as_given[rows], self.aligned[rows])


def place_networks(
    layout: Layout, weights: Float32[Tensor, "networks weights"], reference: Float32[Tensor, " weights"]
) -> Placed:
    """Align networks to a reference, and keep them as they were given."""
    return Placed(weights, align_to(layout, weights, reference))


def align_to(
    layout: Layout, weights: Float32[Tensor, "networks weights"], reference: Float32[Tensor, " weights"]
) -> Float32[Tensor, "networks weights"]:
    """Bring networks to the order of hidden units nearest to a reference; those that are not finite stay."""
    if not bool(weights.isfinite().all(1).any()):
        return weights
    return permute_weights(layout, weights, match_weights(layout, weights, reference, SWEEP_SEED))


def measure_distances(first: Placed, second: Placed) -> Float64[Tensor, "first second"]:
    """Take the L2 distance of each two networks, in the order of units that brings them nearer of the two there are."""
    given = torch.cdist(first.as_given.double(), second.as_given.double())
    return given.minimum(torch.cdist(first.aligned.double(), second.aligned.double()))


def find_nearest(layout: Layout, samples: Placed, anchors: Placed, candidates: int) -> Nearest:
    """Find the anchor nearest to each sample.

    The anchors that look nearest are candidates; the sample is aligned to each of these exactly.

    Args:
        candidates: how many.
    """
    candidates = min(candidates, len(anchors.as_given))
    chosen = measure_distances(samples, anchors).topk(candidates, largest=False).indices
    distance = torch.full(chosen.shape, torch.nan, dtype=torch.float64, device=chosen.device)
    # One call an anchor, for all samples that it is a candidate of.
    for number in chosen.unique().tolist():
        row, column = (chosen == number).nonzero(as_tuple=True)
        sample, anchor = samples.as_given[row], anchors.as_given[number]
        lies, matched = (
            (weights - anchor).double().norm(dim=1) for weights in (sample, align_to(layout, sample, anchor))
        )
        distance[row, column] = lies.minimum(matched)
    lowest, best = distance.min(dim=1)
    return Nearest(chosen.gather(1, best[:, None])[:, 0].cpu().numpy(), lowest.cpu().numpy())


def measure_spread(networks: Placed, different: Bool[np.ndarray, "networks networks"]) -> float:
    """Take the median distance between pairs of networks that are told apart; not-a-number without any."""
    pairs = np.triu(different, 1)
    if not pairs.any():
        return float("nan")
    return float(np.median(measure_distances(networks, networks).cpu().numpy()[pairs]))


def compare_errors(
    first: Bool[np.ndarray, "*networks images"], second: Bool[np.ndarray, "*networks images"]
) -> Float64[np.ndarray, "*networks"]:
    """Divide the images that both get wrong by those that either gets wrong; 1 where there are none."""
    both = (first & second).sum(-1)
    either = (first | second).sum(-1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)
