"""Bring networks to a canonical form: one order, scale and sign of hidden units for all networks of one function.

Order and signs are a member's: found at one epoch, and the same at all. Scales are found for each checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int8, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.networks import Architecture, build_layout
from weightspace.weights.canonical_config import Canonical, SortKey
from weightspace.weights.permute import Permutations, face_axis, keep_places, permute_weights

HOMOGENEOUS = ("relu", "leaky_relu")
"""Activations f with f(c x) = c f(x) for every c > 0."""
ODD = ("tanh",)
"""Activations f with f(-x) = -f(x)."""
NUMBERS_AT_ONCE = 2**22
"""Weights that are worked on in one step."""
Signs = dict[str, Int8[Tensor, "num _"]]
"""1 or -1 for each unit of each permutation."""


@dataclass(frozen=True)
class Symmetry:
    """How to bring members to their canonical form, whatever the epoch; one row a member."""

    orders: Permutations
    signs: Signs
    """Of units in the order they have before `orders`; a name that is missing keeps its signs."""

    def take(self, rows: Int64[Tensor, " num"]) -> "Symmetry":
        """Choose members, each as often as it is named."""
        orders = {name: order[rows] for name, order in self.orders.items()}
        return Symmetry(orders, {name: sign[rows] for name, sign in self.signs.items()})

    def put(self, rows: Int64[Tensor, " num"], some: "Symmetry") -> None:
        """Write how to bring some members to their form in place; signs that no one had so far are 1 for all others."""
        for name, order in some.orders.items():
            self.orders[name][rows] = order
        for name, sign in some.signs.items():
            self.signs.setdefault(name, torch.ones_like(self.orders[name], dtype=sign.dtype))[rows] = sign

    def apply(self, layout: Layout, weights: Float[Tensor, "num weights"]) -> Float[Tensor, "num weights"]:
        """Turn the signs of row `i` and reorder it as member `i` says."""
        return permute_weights(layout, turn_signs(layout, weights, self.signs), self.orders)


@dataclass(frozen=True)
class CanonicalForm:
    """What besides the order of units a configuration chooses, for networks of one layout."""

    layout: Layout
    architecture: Architecture | None
    """None: not known."""
    canonical: Canonical

    def __post_init__(self) -> None:
        if self.architecture is None and (self.canonical.scale or self.canonical.orient):
            raise BadInput(
                "canonical: got scale or orient for networks whose architecture is not known, wanted both false"
            )
        assert self.architecture is None or build_layout(self.architecture) == self.layout

    def scale(
        self, weights: Float[Tensor, "num weights"], activations: Sequence[object]
    ) -> Float[Tensor, "num weights"]:
        """Bring checkpoints to their canonical scale, where that is asked for: the step before all others."""
        if self.architecture is None or not self.canonical.scale:
            return weights
        return scale_units(self.architecture, weights, activations)

    def find_signs(self, weights: Float[Tensor, "num weights"], activations: Sequence[object]) -> Signs:
        """Find the signs of members from one checkpoint of each, where that is asked for; else no sign is turned."""
        if self.architecture is None or not self.canonical.orient:
            return {}
        return find_signs(self.architecture, weights, activations)


def turn_signs(
    layout: Layout, weights: Float[Tensor, "num weights"], signs: Mapping[str, Tensor]
) -> Float[Tensor, "num weights"]:
    """Turn the signs of all weights of some units: where 1 stands, nothing changes."""
    if not signs:
        return weights
    weights = weights.clone()
    for name, sign in signs.items():
        weigh_units(layout, weights, name, sign.to(weights))
    return weights


def gather_numbers(
    layout: Layout, name: str, weights: Float[Tensor, "num weights"], outgoing: bool
) -> Float64[Tensor, "num size numbers"]:
    """Gather the trained numbers on one side of each unit of a permutation.

    What comes in, with biases and what norms do to it, has the unit on the first axis of its tensor; what goes out has
    it on another.
    """
    size = layout.permutation_sizes[name]
    faces = [
        face_axis(place, weights[:, place.offset : place.stop], axis, size)
        for place in layout.carriers(name)
        for axis, carried in enumerate(place.axes)
        if carried == name and place.trained and (axis > 0) == outgoing
    ]
    return torch.cat(faces, dim=2).double() if faces else weights.new_zeros(len(weights), size, 1).double()


def sum_unordered(numbers: Float64[Tensor, "num size numbers"]) -> Float64[Tensor, "num size"]:
    """Add the numbers of each unit so that not even the last bit depends on the order they have."""
    return numbers.sort(dim=2).values.sum(2)


def measure_norms(
    layout: Layout, name: str, weights: Float[Tensor, "num weights"], outgoing: bool
) -> Float64[Tensor, "num size"]:
    """Measure the L2 norm of what comes into each unit, or of what goes out; 0 where there is nothing."""
    return sum_unordered(gather_numbers(layout, name, weights, outgoing).square()).sqrt()


def weigh_units(
    layout: Layout, weights: Float[Tensor, "num weights"], name: str, factors: Float[Tensor, "num size"]
) -> None:
    """Multiply what comes into each unit by its factor and divide what goes out by it, in place."""
    for place in layout.carriers(name):
        shaped = weights[:, place.offset : place.stop].unflatten(1, place.shape)
        for axis, (carried, length) in enumerate(zip(place.axes, place.shape, strict=True)):
            if carried == name:
                shape = [length if i == axis else 1 for i in range(len(place.shape))]
                spread = factors.repeat_interleave(length // factors.shape[1], dim=1).reshape(-1, *shape)
                shaped.mul_(spread) if axis == 0 else shaped.div_(spread)


def sort_units(layout: Layout, weights: Float[Tensor, "num weights"], key: SortKey) -> Permutations:
    """Order the units of each permutation by a norm of their weights, the largest first.

    Copies of a network that differ in the order of units come out the same to the bit. Units of equal key are ordered
    by the other norm; only two of which both norms are equal keep the order they have. A network with weights that are
    not finite keeps its order.

    Args:
        key: `incoming` or `both`, see `Sort`.

    Source: Schürholt et al. 2021 (arXiv 2110.15288), released code: views with rows sorted by value or L2 norm.
    Differs: the bias counts; so do all tensors that write to one stream of a residual network.
    """
    orders = keep_places(layout, len(weights), weights.device)
    finite = weights.isfinite().all(1).nonzero().squeeze(1)
    for rows in finite.split(max(1, NUMBERS_AT_ONCE // layout.num_weights)):
        for name in layout.permutation_sizes:
            incoming, outgoing = (measure_norms(layout, name, weights[rows], side) for side in (False, True))
            first, second = (incoming * outgoing, incoming) if key == "both" else (incoming, outgoing)
            order = second.argsort(dim=1, descending=True, stable=True)
            order = order.gather(1, first.gather(1, order).argsort(dim=1, descending=True, stable=True))
            orders[name][rows] = order
    return orders


def select_rows(
    weights: Float[Tensor, "num weights"], activations: Sequence[object], allowed: Sequence[str]
) -> list[Int64[Tensor, " _"]]:
    """Choose the finite networks with one of some activations, so many at a time as can be worked on in one step."""
    assert len(activations) == len(weights)
    fits = torch.tensor([activation in allowed for activation in activations], dtype=torch.bool, device=weights.device)
    rows = (fits & weights.isfinite().all(1)).nonzero().squeeze(1)
    return list(rows.split(max(1, NUMBERS_AT_ONCE // weights.shape[1])))


def scale_units(
    architecture: Architecture, weights: Float[Tensor, "num weights"], activations: Sequence[object]
) -> Float[Tensor, "num weights"]:
    """Give the incoming weights and bias of every hidden unit norm 1, and its outgoing weights the inverse factor.

    Only where the activation is positively homogeneous; maximum pooling and dropout commute with a positive factor.
    Layers follow one another, so that all scale ends up in the last. A unit without incoming weights keeps its own
    scale; so does a network with weights so large that the last layer cannot hold the product of all.

    Args:
        activations: one a row; rows with others than `HOMOGENEOUS` come back as they are.
    """
    layout = build_layout(architecture)
    scaled = weights.clone()
    for rows in select_rows(weights, activations, HOMOGENEOUS):
        current = weights[rows].double()
        scale_in_place(layout, current)
        current = current.to(weights.dtype)
        fits = current.isfinite().all(1)
        scaled[rows[fits]] = current[fits]
    return scaled


def scale_in_place(layout: Layout, weights: Float64[Tensor, "num weights"]) -> dict[str, Float64[Tensor, "num size"]]:
    """Give the incoming weights and bias of every hidden unit norm 1; return what each was multiplied by."""
    factors: dict[str, Float64[Tensor, "num size"]] = {}
    for name in layout.permutation_sizes:
        norms = measure_norms(layout, name, weights, outgoing=False)
        factors[name] = torch.where(norms > 0, 1 / norms, 1.0)
        weigh_units(layout, weights, name, factors[name])
    return factors


def undo_scale(
    layout: Layout, originals: Float[Tensor, "num weights"], scaled: Float[Tensor, "num weights"]
) -> dict[str, Float64[Tensor, "num size"]]:
    """Return what brings the units of scaled networks back to the scales of their originals; for `weigh_units`.

    Args:
        scaled: what `scale_units` made of the originals.
    """
    factors = scale_in_place(layout, originals.double())
    kept = (scaled == originals).all(1, keepdim=True)
    return {name: torch.where(kept, 1.0, 1 / factor) for name, factor in factors.items()}


def list_orientable(architecture: Architecture) -> list[str]:
    """Name the permutations of hidden units whose signs can be turned: there is no maximum before the activation."""
    layout = build_layout(architecture)
    outputs = [layout.layer_places(layer)[0].axes[0] for layer in range(layout.num_layers)]
    return [name for name, block in zip(outputs, architecture.blocks, strict=True) if name and not block.pool]


def find_signs(
    architecture: Architecture, weights: Float[Tensor, "num weights"], activations: Sequence[object]
) -> Signs:
    """Find the signs by which the incoming weights and bias of every hidden unit get a sum that is not negative.

    Copies of a network that differ in the signs or the order of such units come out the same to the bit. Units before
    a maximum pooling keep their signs: max(-x) is not -max(x).

    Args:
        activations: one a row; rows with others than `ODD` get no sign to turn.
    """
    layout = build_layout(architecture)
    names, like = list_orientable(architecture), torch.ones(len(weights), 1, dtype=torch.int8, device=weights.device)
    signs: Signs = {name: like.repeat(1, layout.permutation_sizes[name]) for name in names}
    for rows in select_rows(weights, activations, ODD):
        current = weights[rows]
        for name in names:
            turned = lean_negative(gather_numbers(layout, name, current, outgoing=False))
            sign = torch.where(turned, -1, 1)
            weigh_units(layout, current, name, sign.to(current))
            signs[name][rows] = sign.to(torch.int8)
    return signs


def lean_negative(numbers: Float64[Tensor, "num size numbers"]) -> Bool[Tensor, "num size"]:
    """Tell whether the numbers of a unit add up to less than 0.

    Positive and negative ones are added apart: turning all signs then turns the answer, rounding or not.
    """
    return sum_unordered(numbers.clamp(min=0)) < sum_unordered((-numbers).clamp(min=0))
