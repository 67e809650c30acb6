"""Say where each tensor of a network lies in its flat weight vector, and which axes may be permuted together."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from weightspace.config import Config

Kind = Literal["conv", "linear", "norm", "bias", "buffer"]


class Place(Config):
    """One tensor of a network and its place in the weight vector."""

    name: str
    """As in a state dict: `conv1.weight`."""
    kind: Kind
    layer: int
    """Counts layers from 0; the tensors of one layer (weight, bias, buffers) share it."""
    shape: tuple[int, ...]
    offset: int
    """Index of its first number in the weight vector."""
    axes: tuple[str | None, ...]
    """For each axis the permutation that moves it; None stays. Two axes of one name move together; an axis that is
    `s` times as long as its permutation moves in blocks of `s` (a flattened convolution)."""
    trained: bool = True
    """False for buffers, such as running statistics."""

    @property
    def size(self) -> int:
        """Count its numbers."""
        return torch.Size(self.shape).numel()

    @property
    def stop(self) -> int:
        """Index after its last number."""
        return self.offset + self.size


class Layout(Config):
    """The tensors of a network in the order of its weight vector."""

    places: tuple[Place, ...]

    @property
    def num_weights(self) -> int:
        """Length of the weight vector."""
        return self.places[-1].stop

    @property
    def num_layers(self) -> int:
        """Count layers; the tensors of one layer share a number."""
        return self.places[-1].layer + 1

    @cached_property
    def permutation_sizes(self) -> dict[str, int]:
        """Length of each permutation: that of the output axis it moves, which comes first in the order of layers."""
        sizes: dict[str, int] = {}
        for place in self.places:
            for name, length in zip(place.axes, place.shape, strict=True):
                if name is not None:
                    sizes.setdefault(name, length)
        return sizes

    @cached_property
    def layers(self) -> tuple[tuple[Place, ...], ...]:
        """The tensors of each layer: the weight first, then the bias, then buffers."""
        grouped = itertools.groupby(self.places, key=lambda place: place.layer)
        layers = tuple(tuple(places) for _, places in grouped)
        assert all(places[0].layer == number for number, places in enumerate(layers)), "layers are not in order"
        return layers

    def layer_places(self, layer: int) -> tuple[Place, ...]:
        """Return the tensors of one layer: the weight first, then the bias, then buffers."""
        return self.layers[layer]

    def carriers(self, name: str) -> tuple[Place, ...]:
        """Return the tensors that a permutation moves."""
        return tuple(place for place in self.places if name in place.axes)

    def layer_name(self, layer: int) -> str:
        """Name a layer by the common stem of its tensors: `conv1`."""
        return self.layer_places(layer)[0].name.rpartition(".")[0]

    def layer_slice(self, layer: int) -> slice:
        """Return where one layer lies in the weight vector."""
        places = self.layer_places(layer)
        return slice(places[0].offset, places[-1].stop)

    @property
    def has_buffers(self) -> bool:
        """Tell whether any number of the weight vector is not trained."""
        return not all(place.trained for place in self.places)

    def mask_trained(self, device: torch.device) -> Bool[Tensor, " weights"]:
        """Tell the numbers that are trained (True) from running statistics."""
        sizes = torch.tensor([place.size for place in self.places], device=device)
        trained = torch.tensor([place.trained for place in self.places], device=device)
        return trained.repeat_interleave(sizes)

    def split(self, weights: Float[Tensor, "*checkpoints weights"]) -> dict[str, Tensor]:
        """View the last axis as the named tensors, each of shape `[*checkpoints, *shape]`."""
        assert weights.shape[-1] == self.num_weights
        return {p.name: weights[..., p.offset : p.stop].unflatten(-1, p.shape) for p in self.places}

    def join(self, tensors: Mapping[str, Tensor]) -> Float[Tensor, "*checkpoints weights"]:
        """Lay named tensors of shape `[*checkpoints, *shape]` end to end; inverse of `split`."""
        return torch.cat([tensors[p.name].flatten(tensors[p.name].ndim - len(p.shape)) for p in self.places], dim=-1)
