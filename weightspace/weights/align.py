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

from weightspace.layout import Layout
from weightspace.weights.permute import Permutations, face_axis, keep_places, permute_axis, permute_rows

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
    counts. The second alone finds any permutation of the reference itself. Numbers that are not trained, such as
    running statistics, do not count. A member with weights that are not finite keeps its order.

    Args:
        seed: decides in which order the permutations are improved; the same for all members.
        max_sweeps: passes over all permutations after which a member stops, converged or not.
    """
    assert bool(reference.isfinite().all()), "the reference has weights that are not finite"
    orders = keep_places(layout, len(weights), weights.device)
    rows = weights.isfinite().all(1).nonzero().squeeze(1)
    target = drop_buffers(layout, reference.double())
    for part in rows.split(max(1, NUMBERS_AT_ONCE // layout.num_weights)):
        found = match_finite(layout, drop_buffers(layout, weights[part].double()), target, seed, max_sweeps)
        for name, order in found.items():
            orders[name][part] = order
    return orders


def drop_buffers(layout: Layout, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n weights"]:
    """Set to zero what is not trained."""
    return weights * layout.mask_trained(weights.device) if layout.has_buffers else weights


def measure_distance(
    layout: Layout, weights: Float[Tensor, "n weights"], reference: Float[Tensor, " weights"]
) -> Float[Tensor, " n"]:
    """Measure what matching makes small: the L2 distance from the reference, of what is trained."""
    return drop_buffers(layout, weights - reference).norm(dim=1)


def match_finite(
    layout: Layout,
    weights: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    seed: int,
    max_sweeps: int,
) -> Permutations:
    """Run both descents and keep the nearer result of each member; the second only where the first left a distance."""
    stay = keep_places(layout, len(weights), weights.device)
    best, nearest = descend(layout, weights.clone(), reference, stay, seed, max_sweeps)
    rows = nearest.nonzero().squeeze(1)
    current = weights[rows]
    start = settle_forward(layout, current, reference)
    orders, distance = descend(layout, current, reference, start, seed, max_sweeps)
    better = distance < nearest[rows]
    for name, order in orders.items():
        best[name][rows[better]] = order[better]
    return best


def descend(
    layout: Layout,
    current: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    start: Permutations,
    seed: int,
    max_sweeps: int,
) -> tuple[Permutations, Float64[Tensor, " n"]]:
    """Improve one permutation after the other until none gains; members that have converged drop out.

    Args:
        current: the members in the order `start`; overwritten.

    Returns:
        The orders, and the L2 distance of each reordered member from the reference.
    """
    generator = torch.Generator().manual_seed(seed)
    names = list(layout.permutation_sizes)
    orders = {name: order.clone() for name, order in start.items()}
    distance = (current - reference).norm(dim=1)
    active = torch.arange(len(current), device=current.device)
    for _ in range(max_sweeps):
        moving = {name: order[active] for name, order in orders.items()}
        gained = torch.zeros(len(active), dtype=torch.bool, device=current.device)
        for index in torch.randperm(len(names), generator=generator).tolist():
            gained |= improve_order(layout, names[index], current, reference, moving, names)
        for name, order in moving.items():
            orders[name][active] = order
        active, current = active[gained], current[gained]
        if len(active) == 0:
            break
        distance[active] = (current - reference).norm(dim=1)
    return orders, distance


def settle_forward(
    layout: Layout, current: Float64[Tensor, "n weights"], reference: Float64[Tensor, " weights"]
) -> Permutations:
    """Order the units layer by layer, judging each only by axes whose own order is settled.

    The rows of a permuted copy of the reference then match their originals better than any other pairing does, so
    a planted permutation is found whatever lies behind it.

    Args:
        current: the members; reordered where they are.
    """
    orders = keep_places(layout, len(current), current.device)
    known: list[str] = []
    for name in layout.permutation_sizes:
        improve_order(layout, name, current, reference, orders, known)
        known.append(name)
    return orders


def improve_order(
    layout: Layout,
    name: str,
    current: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    orders: Permutations,
    known: Collection[str],
) -> Bool[Tensor, " n"]:
    """Reorder the units of one permutation where that raises the score; bring the members and `orders` up to date.

    A tensor that has the permutation on two axes is scored with the order of its other axis as it is. What the
    reordering of both brings may then be a loss, and is measured before it counts.

    Args:
        known: permutations that count as settled, see `score_pairs`.

    Returns:
        Which members gained.
    """
    scores = score_pairs(layout, name, current, reference, known)
    moves = assign_units(scores)
    stay = torch.arange(moves.shape[1], device=moves.device)
    new, old = scores.gather(2, moves.unsqueeze(2)).squeeze(2), scores.diagonal(dim1=1, dim2=2)
    gain, least = (new - old).sum(1), LEAST_GAIN * ((new.abs() + old.abs()) * (moves != stay)).sum(1)
    if name in known:
        gain = correct_gain(layout, name, current, reference, moves, gain)
    better = gain > least
    rows = better.nonzero().squeeze(1)
    permute_rows(layout, current, rows, {name: moves[rows]})
    orders[name][rows] = orders[name][rows].gather(1, moves[rows])
    return better


def correct_gain(
    layout: Layout,
    name: str,
    current: Float64[Tensor, "n weights"],
    reference: Float64[Tensor, " weights"],
    moves: Int64[Tensor, "n size"],
    gain: Float64[Tensor, " n"],
) -> Float64[Tensor, " n"]:
    """Replace what tensors with the permutation on several axes seem to gain by what they do gain."""
    for place in layout.carriers(name):
        axes = [axis for axis, carried in enumerate(place.axes) if carried == name]
        if len(axes) > 1:
            before, ours = current[:, place.offset : place.stop], reference[place.offset : place.stop]
            alone = [permute_axis(place, before, axis, moves) for axis in axes]
            both = alone[0]
            for axis in axes[1:]:
                both = permute_axis(place, both, axis, moves)
            gain = gain + (both - before - sum(one - before for one in alone)) @ ours
    return gain


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
    """Choose for each member the pairing of units with the highest sum of scores.

    Where the best partners of all units differ, they are that pairing; only for the others is there a problem to solve.
    """
    size = scores.shape[1]
    stay = torch.arange(size, device=scores.device)
    highest, pairs = scores.max(2)
    pairs = torch.where(scores.diagonal(dim1=1, dim2=2) == highest, stay, pairs)
    contested = (pairs.sort(1).values != stay).any(1).nonzero().squeeze(1)
    if len(contested):
        table = scores[contested].cpu().numpy()
        solved = np.stack([linear_sum_assignment(one, maximize=True)[1] for one in table])
        pairs[contested] = torch.from_numpy(solved).to(scores.device)
    return pairs
