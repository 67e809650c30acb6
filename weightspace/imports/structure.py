"""Find the layout of a foreign network from the names and shapes of its tensors."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from weightspace.config import BadInput, digest_value
from weightspace.imports.layers import Layer, Shape, Wire, Wired, describe_misfit, group_layers, name_kind, stem_of
from weightspace.imports.member import State, Wiring
from weightspace.imports.residual import find_prefix, looks_residual, wire_residual
from weightspace.layout import Layout, Place
from weightspace.networks import ARCHITECTURES, Architecture, build_layout

STEMS = {"conv": "conv", "linear": "fc", "norm": "norm", "buffer": "norm"}


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

    def find(self, where: str, state: State, wiring: Wiring, padded: bool = False) -> Structure:
        """Return the structure of a network's tensors."""
        key = (wiring, padded, *((name, tensor.shape) for name, tensor in state.items()))
        if key not in self.known:
            shapes = {name: tuple(tensor.shape) or (1,) for name, tensor in state.items()}
            self.known[key] = find_structure(where, shapes, wiring, padded)
        return self.known[key]


def flatten_state(structure: Structure, state: State) -> Float32[np.ndarray, " weights"]:
    """Lay the tensors of a network end to end."""
    return torch.cat([state[name].reshape(-1) for name in structure.names]).numpy()


def find_structure(where: str, shapes: Mapping[str, Shape], wiring: Wiring, padded: bool = False) -> Structure:
    """Find how named tensors make a network.

    It is one of ours only if it is a chain, and has just the tensors: other wirings have the same.

    Args:
        padded: whether its convolutions are padded, as those of no network of ours are.

    Raises:
        BadInput: a user vouches for a chain, and the names or shapes are none.
    """
    layers = list(group_layers(shapes))
    names = tuple(name for layer in layers for name in layer.names)
    flat = [shape for layer in layers for shape in layer.shapes]
    wired, gap = wire_layers(where, layers, wiring)
    known = find_known(flat) if gap is None and not padded and not looks_residual(layers) else None
    if known is not None:
        return Structure(known.name, build_layout(known), known, names, None)
    if gap is None:
        names = tuple(name for layer, _ in wired for name in layer.names)
    layout = Layout(places=tuple(place_layers(wired, list(name_layers(wired, gap)))))
    return Structure(f"net_{digest_value(layout)[:8]}", layout, None, names, gap)


def wire_layers(where: str, layers: Sequence[Layer], wiring: Wiring) -> tuple[list[Wired], str | None]:
    """Bring layers to the order in which they run and say which permutations they carry; none where there is a gap.

    Raises:
        BadInput: a user vouches for a chain, and the names or shapes are none.
    """
    wired: list[Wired] = []
    gap: str | None = "which layer feeds which is not known"
    if wiring == "chain":
        if looks_residual(layers):
            raise BadInput(
                f"{where}: {layers[0].names[0]} and others have names of a residual network, wanted `wiring: by_name`"
            )
        wired, gap = wire_chain(layers)
        if gap is not None:
            raise BadInput(f"{where}: {gap}, wanted a chain of layers, or `wiring: unknown`")
    elif wiring == "by_name" and looks_residual(layers):
        wired, gap = wire_residual(layers)
    elif wiring == "by_name" and stem_of([name for layer in layers for name in layer.names]) == "module_list.":
        wired, gap = wire_chain(layers)
    return ([(layer, Wire(None, None)) for layer in layers], gap) if gap else (wired, None)


def find_known(shapes: Sequence[Shape]) -> Architecture | None:
    """Return the architecture of ours that has just these tensors."""
    for build in ARCHITECTURES.values():
        if len(shapes[0]) < 2 or len(shapes[-1]) != 1:
            return None
        candidate = build(shapes[0][1], shapes[-1][0])
        if [place.shape for place in build_layout(candidate).places] == list(shapes):
            return candidate
    return None


def wire_chain(layers: Sequence[Layer]) -> tuple[list[Wired], str | None]:
    """Name the permutation of each layer's outputs in a chain; or say where the shapes are none.

    A batch norm keeps the permutation of what it follows. A norm without running statistics may be a group norm, whose
    units cannot be permuted.
    """
    weighty = [layer for layer in layers if layer.kind in ("conv", "linear")]
    wired: list[Wired] = []
    before: Layer | None = None
    incoming: str | None = None
    for layer in layers:
        if before is not None and layer.is_batch_norm and layer.num_outputs == before.num_outputs:
            wired.append((layer, Wire(incoming, None)))
            continue
        if layer.kind not in ("conv", "linear"):
            what = f"{layer.names[0]} of shape {layer.shapes[0]}"
            return [], f"{what} is neither convolution, linear layer nor batch norm after one"
        if before is not None and not feeds(before, layer):
            return [], describe_misfit(layer, before.num_outputs)
        outgoing = None if layer is weighty[-1] else f"p{weighty.index(layer)}"
        wired.append((layer, Wire(outgoing, incoming)))
        before, incoming = layer, outgoing
    return wired, None


def feeds(before: Layer, layer: Layer) -> bool:
    """Tell whether a layer can take what the one before gives; a linear layer also the pixels of each channel."""
    num_inputs = layer.shapes[0][1]
    if layer.kind == "linear" and before.kind == "conv":
        return num_inputs % before.num_outputs == 0
    return num_inputs == before.num_outputs


def name_layers(wired: Sequence[Wired], gap: str | None) -> Iterator[str]:
    """Name the layers: by kind and number along a chain, elsewhere as the source does, without what all names share."""
    layers = [layer for layer, _ in wired]
    if gap is not None or looks_residual(layers):
        prefix = "" if gap is not None else find_prefix(layers)
        yield from (layer.module.removeprefix(prefix) for layer in layers)
        return
    counts: Counter[str] = Counter()
    for layer in layers:
        stem = STEMS[layer.kind]
        counts[stem] += 1
        yield f"{stem}{counts[stem]}"


def place_layers(wired: Sequence[Wired], modules: Sequence[str]) -> Iterator[Place]:
    """Place the tensors of all layers end to end, under the names of their modules."""
    offset = 0
    for number, ((layer, wire), module) in enumerate(zip(wired, modules, strict=True)):
        for name, shape in zip(layer.names, layer.shapes, strict=True):
            kind = name_kind(name, shape)
            axes = (wire.outgoing, wire.incoming, *(None for _ in shape[2:]))[: len(shape)]
            tensor = f"{module}.{name.rpartition('.')[2]}".removeprefix(".")
            trained = kind != "buffer"
            place = Place(name=tensor, kind=kind, layer=number, shape=shape, offset=offset, axes=axes, trained=trained)
            yield place
            offset = place.stop


def describe_shapes(layout: Layout) -> str:
    """Show the weights of a layout on one line, short."""
    shapes = ["x".join(map(str, place.shape)) for place in layout.places if place.kind in ("conv", "linear")]
    text = " ".join(shapes)
    return text if len(text) < 60 else f"{len(shapes)} weights from {shapes[0]} to {shapes[-1]}"
