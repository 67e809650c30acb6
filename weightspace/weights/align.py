"""Bring networks to a canonical order of hidden units: the one nearest to a reference network.

Source: Ainsworth et al., Git Re-Basin (arXiv 2209.04836), weight matching.
Differs: many members at once; two starts, see `match_weights`.
"""

from collections.abc import Collection

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from weightspace.layout import Layout, Place
from weightspace.weights.permute import Permutations, keep_places, permute_weights

LEAST_GAIN = 1e-12
"""A reordering that brings less than this part of the scores it touches is rounding, not gain."""
NUMBERS_AT_ONCE = 2**22
"""Weights of members that are matched together."""
MAX_SWEEPS = 100


def match_weights(
    layout: Layout,
    weights: Float[Tensor, "n weights"],
    reference: Float[Tensor, " weights"],
    seed: int,
    max_sweeps: int = MAX_SWEEPS,
) -> Permutations:
    """Find for each member the order of its hidden units that brings it near the reference in L2.

    Two descents run for each member, one from the order it has and one from `settle_forward`; the nearer result
    counts. The second alone finds any permutation of the reference itself. A member with weights that are not finite
    keeps its order.

    Args:
        seed: decides in which order the permutations are improved; the same for all members.
        max_sweeps: passes over all permutations after which a member stops, converged or not.
    """
    assert bool(reference.isfinite().all()), "the reference has weights that are not finite"
    orders = keep_places(layout, len(weights), weights.device)
    rows = weights.isfinite().all(1).nonzero().squeeze(1)
    for part in rows.split(max(1, NUMBERS_AT_ONCE // layout.num_weights)):
        found = match_finite(layout, weights[part].double(), reference.double(), seed, max_sweeps)
        for name, order in found.items():
            orders[name][part] = order
    return orders


def match_finite(
    layout: Layout,
    weights: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    seed: int,
    max_sweeps: int,
) -> Permutations:
    """Run both descents and keep the nearer result of each member."""
    best = keep_places(layout, len(weights), weights.device)
    nearest = (weights - reference).norm(dim=1)
    for start in (best, settle_forward(layout, weights, reference)):
        orders, distance = descend(layout, weights, reference, start, seed, max_sweeps)
        better = (distance < nearest).unsqueeze(1)
        best = {name: torch.where(better, order, best[name]) for name, order in orders.items()}
        nearest = nearest.minimum(distance)
    return best


def descend(
    layout: Layout,
    weights: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    start: Permutations,
    seed: int,
    max_sweeps: int,
) -> tuple[Permutations, Float64[Tensor, " n"]]:
    """Improve one permutation after the other until none gains; members that have converged drop out.

    Returns:
        The orders, and the L2 distance of each reordered member from the reference.
    """
    generator = torch.Generator().manual_seed(seed)
    names = list(layout.permutation_sizes)
    orders = {name: order.clone() for name, order in start.items()}
    distance = (permute_weights(layout, weights, orders) - reference).norm(dim=1)
    active = torch.arange(len(weights), device=weights.device)
    for _ in range(max_sweeps):
        moving = {name: order[active] for name, order in orders.items()}
        current = permute_weights(layout, weights[active], moving)
        gained = torch.zeros(len(active), dtype=torch.bool, device=weights.device)
        for index in torch.randperm(len(names), generator=generator).tolist():
            scores = score_pairs(layout, names[index], current, reference, names)
            current, better = improve_order(layout, names[index], current, scores, moving)
            gained |= better
        for name, order in moving.items():
            orders[name][active] = order
        distance[active] = (current - reference).norm(dim=1)
        active = active[gained]
        if len(active) == 0:
            break
    return orders, distance


def settle_forward(
    layout: Layout, weights: Float64[Tensor, "n weights"], reference: Float64[Tensor, " weights"]
) -> Permutations:
    """Order the units layer by layer, judging each only by axes whose own order is settled.

    The rows of a permuted copy of the reference then match their originals better than any other pairing does, so
    a planted permutation is found whatever lies behind it.
    """
    orders = keep_places(layout, len(weights), weights.device)
    current = weights
    known: list[str] = []
    for name in layout.permutation_sizes:
        scores = score_pairs(layout, name, current, reference, known)
        current, _ = improve_order(layout, name, current, scores, orders)
        known.append(name)
    return orders


def improve_order(
    layout: Layout,
    name: str,
    current: Float64[Tensor, "n weights"],
    scores: Float64[Tensor, "n size size"],
    orders: Permutations,
) -> tuple[Float64[Tensor, "n weights"], Bool[Tensor, " n"]]:
    """Reorder the units of one permutation where that raises the score, and bring `orders` up to date.

    Returns:
        The reordered members, and which of them gained.
    """
    moves = assign_units(scores)
    stay = torch.arange(moves.shape[1], device=moves.device)
    new, old = scores.gather(2, moves.unsqueeze(2)).squeeze(2), scores.diagonal(dim1=1, dim2=2)
    better = (new - old).sum(1) > LEAST_GAIN * ((new.abs() + old.abs()) * (moves != stay)).sum(1)
    moves = torch.where(better.unsqueeze(1), moves, stay)
    orders[name] = orders[name].gather(1, moves)
    return permute_weights(layout, current, {name: moves}), better


def face_axis(place: Place, tensors: Float64[Tensor, "*n numbers"], axis: int, size: int) -> Tensor:
    """Lay a tensor, flat in its last axis, as rows of what each of `size` units holds along one of its axes."""
    shaped = tensors.unflatten(-1, place.shape).movedim(axis - len(place.shape), tensors.ndim - 1)
    return shaped.reshape(*tensors.shape[:-1], size, place.size // size)


def score_pairs(
    layout: Layout,
    name: str,
    current: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    known: Collection[str],
) -> Float64[Tensor, "n size size"]:
    """Score each pairing of a unit of the reference with a unit of a member: the inner product of their weights.

    Args:
        known: permutations that are settled; an axis beside one that is not says nothing and is left out.
    """
    size = layout.permutation_sizes[name]
    scores = current.new_zeros(len(current), size, size)
    for place in layout.places:
        for axis, carried in enumerate(place.axes):
            others = [other for i, other in enumerate(place.axes) if i != axis and other is not None]
            if carried != name or any(other not in known for other in others):
                continue
            theirs = face_axis(place, current[:, place.offset : place.stop], axis, size)
            ours = face_axis(place, reference[place.offset : place.stop], axis, size)
            scores += (theirs @ ours.T).transpose(1, 2)
    return scores


def assign_units(scores: Float64[Tensor, "n size size"]) -> Int64[Tensor, "n size"]:
    """Choose for each member the pairing of units with the highest sum of scores."""
    table = scores.cpu().numpy()
    pairs = np.stack([linear_sum_assignment(one, maximize=True)[1] for one in table])
    return torch.from_numpy(pairs).to(scores.device)
