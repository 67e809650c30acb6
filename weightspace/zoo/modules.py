"""Lay out any torch module as a weight vector, and run it with such vectors."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from weightspace.layout import Kind, Layout, Place
from weightspace.zoo.residual import Wire

ORDER = ("weight", "bias", "running_mean", "running_var")


def lay_out_module(module: nn.Module, wires: Mapping[str, Wire]) -> Layout:
    """Place every parameter and every buffer of floating numbers that a state dict has, layer after layer.

    The tensors of one module are a layer if they have as many outputs, the weight first, then bias and buffers: as an
    import lays out the state dict of a network. A tensor that several modules share has one place.

    Args:
        wires: by layer, which permutations it carries; others carry none.
    """
    places: list[Place] = []
    for layer, (name, tensors) in enumerate(list_layers(module)):
        outgoing, incoming = wires.get(name, (None, None))
        for last, tensor in tensors.items():
            buffer = not isinstance(tensor, nn.Parameter)
            shape = tuple(tensor.shape) or (1,)
            place = Place(
                name=f"{name}.{last}".removeprefix("."),
                kind="buffer" if buffer else name_kind(last, shape),
                layer=layer,
                shape=shape,
                offset=places[-1].stop if places else 0,
                axes=(outgoing, incoming, *(None for _ in shape))[: len(shape)],
                trained=tensor.requires_grad,
            )
            places.append(place)
    return Layout(places=tuple(places))


def list_layers(module: nn.Module) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the names of modules with tensors of their own, and those tensors by their last name."""
    kept = module.state_dict(keep_vars=True)
    seen: set[int] = set()
    for name, part in module.named_modules():
        own = {
            last: tensor
            for last, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
            if f"{name}.{last}".removeprefix(".") in kept and tensor.is_floating_point() and id(tensor) not in seen
        }
        seen |= {id(tensor) for tensor in own.values()}
        names = sorted(own, key=lambda last: ORDER.index(last) if last in ORDER else len(ORDER))
        while names:
            same = [last for last in names if count_outputs(own[last]) == count_outputs(own[names[0]])]
            yield name, {last: own[last] for last in same}
            names = [last for last in names if last not in same]


def count_outputs(tensor: Tensor) -> int:
    """Count a tensor's rows."""
    return tensor.shape[0] if tensor.ndim else 1


def name_kind(last: str, shape: tuple[int, ...]) -> Kind:
    """Tell what a parameter is from its last name and its shape."""
    if not last.endswith("weight"):
        return "bias"
    return {1: "norm", 2: "linear"}.get(len(shape), "conv")  # pyright: ignore[reportReturnType]


def name_tensors(module: nn.Module, layout: Layout, weights: Float[Tensor, "*members weights"]) -> dict[str, Tensor]:
    """View weight vectors as the tensors of a module, with shapes as it has them after the axes of the members."""
    own = module.state_dict(keep_vars=True)
    return {n: t.reshape((*weights.shape[:-1], *own[n].shape)) for n, t in layout.split(weights).items()}


def read_vector(module: nn.Module, layout: Layout) -> Float[Tensor, " weights"]:
    """Lay the tensors of a module end to end."""
    own = module.state_dict()
    return torch.cat([own[place.name].flatten() for place in layout.places])


def run_module(
    module: nn.Module,
    layout: Layout,
    weights: Float[Tensor, " weights"],
    images: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch classes"]:
    """Compute one member's logits; its vector stays as it is, whatever the module does to its buffers."""
    return functional_call(module, name_tensors(module, layout, weights.clone()), (images,))
