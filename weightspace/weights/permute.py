"""Permute hidden units: the weights change, the function does not.

A permutation `p` of size `s` puts unit `p[i]` at place `i`, on every axis of the layout that carries its name.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from weightspace.layout import Layout, Place

Permutations = dict[str, Int64[Tensor, "num _"]]
NUMBERS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Weights that are reordered in one step: on a CPU their indices should fit its cache."""


def draw_permutations(layout: Layout, num: int, generator: torch.Generator) -> Permutations:
    """Draw permutations at random, `num` of each name, all orders as likely."""
    device = generator.device
    return {
        name: torch.rand(num, size, generator=generator, device=device).argsort(dim=1)
        for name, size in layout.permutation_sizes.items()
    }


def keep_places(layout: Layout, num: int, device: torch.device) -> Permutations:
    """Return the permutations that move nothing."""
    return {
        name: torch.arange(size, device=device).expand(num, size).clone()
        for name, size in layout.permutation_sizes.items()
    }


def invert_permutations(permutations: Mapping[str, Tensor]) -> Permutations:
    """Return the permutations that undo the given ones."""
    return {name: order.argsort(dim=1) for name, order in permutations.items()}


def expand_blocks(order: Int64[Tensor, "num size"], length: int) -> Int64[Tensor, "num length"]:
    """Spread a permutation over an axis that moves in blocks of `length / size`."""
    block = length // order.shape[1]
    if block == 1:
        return order
    return (order.unsqueeze(2) * block + torch.arange(block, device=order.device)).flatten(1)


def index_place(place: Place, permutations: Mapping[str, Tensor], index: Int64[Tensor, "num *shape"]) -> None:
    """Fill in where in the weight vector each number of one tensor comes from.

    Axes that stay are added last and all at once: one pass over `index`, whatever its shape.
    """
    source = torch.arange(place.offset, place.stop, device=index.device).reshape(1, *place.shape)
    steps: Tensor | None = None
    for axis, (name, length) in enumerate(zip(place.axes, place.shape, strict=True), start=1):
        if name is not None and name in permutations:
            stride = source.stride(axis)
            shape = [-1 if i == 0 else length if i == axis else 1 for i in range(index.ndim)]
            moved = (expand_blocks(permutations[name], length) * stride).reshape(shape)
            steps = moved if steps is None else steps + moved
            source = source.narrow(axis, 0, 1)
    if steps is None:
        index.copy_(source)
    else:
        torch.add(source, steps, out=index)


def fill_index(layout: Layout, permutations: Mapping[str, Tensor], index: Int64[Tensor, "num weights"]) -> None:
    """Fill in where each number of the permuted weight vectors comes from."""
    for place in layout.places:
        index_place(place, permutations, index[:, place.offset : place.stop].unflatten(1, place.shape))


def index_permutations(layout: Layout, permutations: Mapping[str, Tensor]) -> Int64[Tensor, "num weights"]:
    """Say for each number of the permuted weight vectors where in the given ones it comes from.

    A name that is missing from `permutations` stays where it is.
    """
    some = next(iter(permutations.values()))
    index = torch.empty(len(some), layout.num_weights, dtype=torch.int64, device=some.device)
    fill_index(layout, permutations, index)
    return index


def permute_weights(
    layout: Layout, weights: Float[Tensor, "num weights"], permutations: Mapping[str, Tensor]
) -> Float[Tensor, "num weights"]:
    """Permute row `i` by permutation `i`. Needs no more memory than the result and one block of indices."""
    out = torch.empty_like(weights, memory_format=torch.contiguous_format)
    steps = -(-weights.numel() // NUMBERS_AT_ONCE[weights.device.type])
    rows = max(1, -(-len(weights) // max(1, steps)))  # steps of equal size: each has a cost of its own
    index = torch.empty(rows, layout.num_weights, dtype=torch.int64, device=weights.device)
    for start in range(0, len(weights), rows):
        part = slice(start, start + rows)
        here = index[: len(weights[part])]
        fill_index(layout, {name: order[part] for name, order in permutations.items()}, here)
        torch.gather(weights[part], 1, here, out=out[part])
    return out


def face_axis(place: Place, tensors: Float[Tensor, "*n numbers"], axis: int, size: int) -> Tensor:
    """Lay a tensor, flat in its last axis, as rows of what each of `size` units holds along one of its axes."""
    shaped = tensors.unflatten(-1, place.shape).movedim(axis - len(place.shape), tensors.ndim - 1)
    return shaped.reshape(*tensors.shape[:-1], size, place.size // size)


def permute_axis(place: Place, numbers: Float[Tensor, "num size"], axis: int, order: Int64[Tensor, "num _"]) -> Tensor:
    """Permute one axis of a tensor that is flat in its last axis."""
    shaped = numbers.unflatten(1, place.shape)
    spread = expand_blocks(order, place.shape[axis])
    index = spread.reshape(len(spread), *(length if i == axis else 1 for i, length in enumerate(place.shape)))
    return shaped.gather(axis + 1, index.expand_as(shaped)).flatten(1)


def permute_rows(
    layout: Layout,
    weights: Float[Tensor, "all_rows weights"],
    rows: Int64[Tensor, " num"],
    permutations: Mapping[str, Tensor],
) -> None:
    """Permute some rows where they are, row `rows[i]` by permutation `i`; tensors that do not move cost nothing."""
    for place in layout.places:
        moving = [(axis, name) for axis, name in enumerate(place.axes) if name in permutations]
        if moving:
            part = weights[rows, place.offset : place.stop]
            for axis, name in moving:
                assert name is not None
                part = permute_axis(place, part, axis, permutations[name])
            weights[rows, place.offset : place.stop] = part
