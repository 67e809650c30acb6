"""Group the tensors of a foreign network into layers, and say which permutation each layer's axes carry."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from weightspace.layout import Kind

BUFFERS = ("running_mean", "running_var")
ORDER = ("weight", "bias", *BUFFERS)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Tensors that belong together: one module's, of one number of outputs."""

    kind: Kind
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]

    @property
    def module(self) -> str:
        """Name the module that its tensors belong to."""
        return self.names[0].rpartition(".")[0]

    @property
    def num_outputs(self) -> int:
        """Count its channels or neurons."""
        return self.shapes[0][0]

    @property
    def is_batch_norm(self) -> bool:
        """Tell a batch norm from others: a norm without running statistics may be one of groups of channels."""
        return self.kind in ("norm", "buffer") and any(name.endswith(BUFFERS) for name in self.names)


@dataclass(frozen=True)
class Wire:
    """The permutations of a layer's outputs and inputs; None: they stay where they are."""

    outgoing: str | None
    incoming: str | None


Wired = tuple[Layer, Wire]


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


def describe_misfit(layer: Layer, width: int) -> str:
    """Say that a layer takes another number of inputs than it is given."""
    return f"{layer.names[0]} takes {layer.shapes[0][1]} inputs, and what comes before gives {width}"
