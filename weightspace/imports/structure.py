"""Find the layout of a foreign network from the names and shapes of its tensors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from weightspace.config import BadInput, digest_value
from weightspace.imports.member import State, Wiring
from weightspace.layout import Kind, Layout, Place
from weightspace.networks import ARCHITECTURES, Architecture, build_layout

BUFFERS = ("running_mean", "running_var")
ORDER = ("weight", "bias", *BUFFERS)
STEMS = {"conv": "conv", "linear": "fc", "norm": "norm"}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Tensors that belong together: one module's, of one number of outputs."""

    kind: Kind
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Structure:
    """How a kind of network lies in a weight vector."""

    name: str
    """As in `networks.ARCHITECTURES`, or `net_` and a digest of the layout."""
    layout: Layout
    architecture: Architecture | None
    """None: the network is not known, so that it cannot be run."""
    names: tuple[str, ...]
    """What the source calls the tensors, in the order of the layout."""
    gap: str | None
    """Why units cannot be permuted; None if they can."""


class StructureFinder:
    """Find structures, each only once."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], Structure] = {}

    def find(self, where: str, state: State, wiring: Wiring) -> Structure:
        """Return the structure of a network's tensors."""
        key = (wiring, *((name, tensor.shape) for name, tensor in state.items()))
        if key not in self.known:
            shapes = {name: tuple(tensor.shape) or (1,) for name, tensor in state.items()}
            self.known[key] = find_structure(where, shapes, wiring)
        return self.known[key]


def flatten_state(structure: Structure, state: State) -> Float32[np.ndarray, " weights"]:
    """Lay the tensors of a network end to end."""
    return torch.cat([state[name].reshape(-1) for name in structure.names]).numpy()


def find_structure(where: str, shapes: Mapping[str, Shape], wiring: Wiring) -> Structure:
    """Find how named tensors make a network.

    Raises:
        BadInput: a user vouches for a chain, and the shapes are none.
    """
    layers = list(group_layers(shapes))
    names = tuple(name for layer in layers for name in layer.names)
    flat = [shape for layer in layers for shape in layer.shapes]
    known = find_known(flat)
    if known is not None:
        return Structure(known.name, build_layout(known), known, names, None)
    axes, gap = wire_chain(layers)
    if wiring == "chain" and gap is not None:
        raise BadInput(f"{where}: {gap}, wanted a chain of layers, or `wiring: unknown`")
    if wiring == "unknown" or (wiring == "by_name" and stem_of(names) != "module_list."):
        gap = "which layer feeds which is not known"
    places = tuple(place_layers(layers, None if gap else axes))
    layout = Layout(places=places)
    return Structure(f"net_{digest_value(layout)[:8]}", layout, None, names, gap)


def find_known(shapes: Sequence[Shape]) -> Architecture | None:
    """Return the architecture of ours that has just these tensors."""
    for build in ARCHITECTURES.values():
        if len(shapes[0]) < 2 or len(shapes[-1]) != 1:
            return None
        candidate = build(shapes[0][1], shapes[-1][0])
        if [place.shape for place in build_layout(candidate).places] == list(shapes):
            return candidate
    return None


def stem_of(names: Sequence[str]) -> str | None:
    """Return what all names start with, if a number and a tensor's own name is all that follows."""
    stems = [re.fullmatch(r"(.*?)\d+\.[^.]+", name) for name in names]
    found = {match[1] for match in stems if match}
    return found.pop() if all(stems) and len(found) == 1 else None


def group_layers(shapes: Mapping[str, Shape]) -> Iterator[Layer]:
    """Group tensors by module, in the order of the network: by number where the names differ in one, else as given."""
    modules: dict[str, list[str]] = {}
    for name in shapes:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    order = list(modules)
    if stem_of(list(shapes)) is not None:
        order.sort(key=lambda module: int(re.findall(r"\d+", module)[-1]))
    for module in order:
        names = sorted(modules[module], key=lambda name: rank_tensor(name.rpartition(".")[2]))
        while names:
            first = shapes[names[0]][0]
            same = [name for name in names if shapes[name][0] == first]
            kind = name_kind(same[0], shapes[same[0]])
            yield Layer(kind, tuple(same), tuple(shapes[name] for name in same))
            names = [name for name in names if name not in same]


def rank_tensor(last: str) -> int:
    """Order the tensors of a module."""
    return ORDER.index(last) if last in ORDER else len(ORDER)


def name_kind(name: str, shape: Shape) -> Kind:
    """Tell what a tensor is from its name and shape."""
    last = name.rpartition(".")[2]
    if last in BUFFERS:
        return "buffer"
    if not last.endswith("weight"):
        return "bias"
    return {1: "norm", 2: "linear"}.get(len(shape), "conv")  # pyright: ignore[reportReturnType]


def wire_chain(layers: Sequence[Layer]) -> tuple[list[str | None], str | None]:
    """Name the permutation of each layer's outputs in a chain; or say where the shapes are none.

    A batch norm keeps the permutation of what it follows. A norm without running statistics may be a group norm, whose
    units cannot be permuted.
    """
    weighty = [number for number, layer in enumerate(layers) if layer.kind in ("conv", "linear")]
    axes: list[str | None] = []
    width = 0
    for number, layer in enumerate(layers):
        shape = layer.shapes[0]
        if any(name.endswith(BUFFERS) for name in layer.names) and shape[0] == width:
            axes.append(axes[-1])
            continue
        if layer.kind not in ("conv", "linear"):
            return (
                [],
                f"{layer.names[0]} of shape {shape} is neither convolution, linear layer nor batch norm after one",
            )
        spread = layer.kind == "linear" and layers[weighty[weighty.index(number) - 1]].kind == "conv"
        fits = shape[1] % width == 0 if spread and width else shape[1] == width
        if width and not fits:
            return [], f"{layer.names[0]} takes {shape[1]} inputs, and what comes before gives {width}"
        width = shape[0]
        axes.append(None if number == weighty[-1] else f"p{weighty.index(number)}")
    return axes, None


def place_layers(layers: Sequence[Layer], outputs: Sequence[str | None] | None) -> Iterator[Place]:
    """Place the tensors of all layers; named anew along a chain, as the source does elsewhere."""
    offset = 0
    counts = dict.fromkeys(STEMS.values(), 0)
    incoming: str | None = None
    for number, layer in enumerate(layers):
        stem = STEMS["norm" if layer.kind == "buffer" else layer.kind] if outputs is not None else ""
        counts[stem] = counts.get(stem, 0) + 1
        outgoing = None if outputs is None else outputs[number]
        for name, shape in zip(layer.names, layer.shapes, strict=True):
            kind = name_kind(name, shape)
            into = (incoming,) if len(shape) > 1 else ()
            axes = (outgoing, *into, *(None for _ in shape[2:]))
            place = Place(
                name=f"{stem}{counts[stem]}.{name.rpartition('.')[2]}" if outputs is not None else name,
                kind=kind,
                layer=number,
                shape=shape,
                offset=offset,
                axes=axes,
                trained=kind != "buffer",
            )
            yield place
            offset = place.stop
        incoming = outgoing


def describe_shapes(layout: Layout) -> str:
    """Show the weights of a layout on one line, short."""
    shapes = ["x".join(map(str, place.shape)) for place in layout.places if place.kind in ("conv", "linear")]
    text = " ".join(shapes)
    return text if len(text) < 60 else f"{len(shapes)} weights from {shapes[0]} to {shapes[-1]}"
