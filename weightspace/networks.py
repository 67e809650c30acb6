"""Describe the networks that zoos are made of, and run many of one kind at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from weightspace.config import BadInput, Config
from weightspace.layout import Kind, Layout, Place

Activation = Literal["tanh", "relu", "sigmoid", "gelu", "leaky_relu", "silu"]
ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
}


class Block(Config):
    """One layer with weights and what follows it, in this order: pooling, activation, dropout.

    What a block need not say is left out of its JSON too, so that networks without it are described as ever.
    """

    kind: Literal["conv", "linear"]
    features: int
    """Output channels or neurons."""
    kernel: int = 1
    """Edge of the square kernel; no padding."""
    stride: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Pixels between neighbouring positions of the kernel."""
    pool: bool = False
    """Maximum over 2x2 windows, before the activation."""
    activate: bool = True
    dropout: bool = False
    """True: the member's dropout rate applies here."""
    average: bool = Field(default=False, exclude_if=lambda value: not value)
    """Of a linear block: True takes the mean of each channel over the image, False flattens what comes in."""
    bias: bool = Field(default=True, exclude_if=lambda value: value)
    """False: the layer has weights only."""


class Architecture(Config):
    """A chain of blocks from images to logits; the first linear block flattens or averages over the image."""

    name: str
    channels: int
    height: int
    width: int
    blocks: tuple[Block, ...]

    @property
    def num_classes(self) -> int:
        """Count the logits."""
        return self.blocks[-1].features

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width

    @property
    def takes_any_size(self) -> bool:
        """Say whether its weights fit images of other sizes too: it averages over the image."""
        return any(block.average for block in self.blocks)


def build_cnn_s(channels: int = 1, num_classes: int = 10) -> Architecture:
    """Build the small CNN of the published zoos: 2,464 weights with one channel, 2,864 with three.

    Source: Schürholt et al., Model Zoos (arXiv 2209.14764), `CNN`.
    """
    blocks = (
        Block(kind="conv", features=8, kernel=5, pool=True, dropout=True),
        Block(kind="conv", features=6, kernel=5, pool=True, dropout=True),
        Block(kind="conv", features=4, kernel=2),
        Block(kind="linear", features=20, dropout=True),
        Block(kind="linear", features=num_classes, activate=False),
    )
    return Architecture(name="cnn_s", channels=channels, height=28, width=28, blocks=blocks)


def build_cnn_l(channels: int = 3, num_classes: int = 10) -> Architecture:
    """Build the large CNN of the published zoos: 10,853 weights.

    Source: Schürholt et al., Model Zoos (arXiv 2209.14764), `CNN3`.
    """
    conv = [Block(kind="conv", features=n, kernel=3, pool=True, dropout=True) for n in (16, 32, 15)]
    head = [
        Block(kind="linear", features=20, dropout=True),
        Block(kind="linear", features=num_classes, activate=False),
    ]
    return Architecture(name="cnn_l", channels=channels, height=32, width=32, blocks=(*conv, *head))


def build_small_cnn(channels: int = 1, num_classes: int = 10) -> Architecture:
    """Build the network of the Small CNN Zoo: 4,970 weights with one channel, for images of 28x28 or any other size.

    Source: Unterthiner et al., Predicting Neural Network Accuracy from Weights (arXiv 2002.11448).
    """
    conv = [Block(kind="conv", features=16, kernel=3, stride=2, dropout=True) for _ in range(3)]
    head = Block(kind="linear", features=num_classes, average=True, activate=False)
    return Architecture(name="small_cnn", channels=channels, height=28, width=28, blocks=(*conv, head))


def build_mlp(shape: tuple[int, int, int], widths: Sequence[int], num_classes: int, bias: bool = True) -> Architecture:
    """Build a chain of linear layers with hidden layers of these widths, for images of a shape.

    The Tetris zoo's network, 100 weights, has the shape (1, 4, 4), one hidden layer of 5, four classes and no biases.
    """
    hidden = [Block(kind="linear", features=width, dropout=True, bias=bias) for width in widths]
    head = Block(kind="linear", features=num_classes, activate=False, bias=bias)
    name = "_".join(["mlp", *map(str, widths), *([] if bias else ["no_bias"])])
    channels, height, width = shape
    return Architecture(name=name, channels=channels, height=height, width=width, blocks=(*hidden, head))


ARCHITECTURES: dict[str, Callable[[int, int], Architecture]] = {
    "cnn_s": build_cnn_s,
    "cnn_l": build_cnn_l,
    "small_cnn": build_small_cnn,
}
"""Networks by name, each built from a number of channels and of classes."""


def build_architecture(name: str, shape: tuple[int, int, int], num_classes: int) -> Architecture:
    """Build a named architecture for images of a shape and some classes; those that fit one size only keep it.

    Raises:
        BadInput: nothing has that name, or the images are too small for it.
    """
    if name not in ARCHITECTURES:
        raise BadInput(f"architecture: got {name!r}, wanted one of {', '.join(ARCHITECTURES)}, or an mlp")
    architecture = ARCHITECTURES[name](shape[0], num_classes)
    if architecture.takes_any_size:
        architecture = architecture.model_copy(update={"height": shape[1], "width": shape[2]})
    if min(map(min, trace_shapes(architecture))) < 1:
        raise BadInput(f"architecture: {name} leaves nothing of images of shape {shape}, wanted larger ones")
    return architecture


def read_chain(said: Mapping[str, Any] | None) -> Architecture | None:
    """Read what a data set says of its networks; None unless they are a chain of blocks, which can be run anywhere.

    Other kinds say which kind they are. Nothing is imported, whatever is said.
    """
    return None if not said or "kind" in said else Architecture.model_validate(said)


def trace_shapes(architecture: Architecture) -> list[tuple[int, int, int]]:
    """Return what enters each block as (channels, height, width), then the logits; a linear block sees (n, 1, 1)."""
    shapes = [architecture.image_shape]
    for block in architecture.blocks:
        _, height, width = shapes[-1]
        if block.kind == "linear":
            shapes.append((block.features, 1, 1))
            continue
        height, width = ((edge - block.kernel) // block.stride + 1 for edge in (height, width))
        if block.pool:
            height, width = height // 2, width // 2
        shapes.append((block.features, height, width))
    return shapes


def build_layout(architecture: Architecture) -> Layout:
    """Lay out the weight vector: per block the weight as (out, in, kh, kw), then the bias if it has one.

    Hidden units of block `i` carry the permutation `p{i}`; images and logits stay where they are.
    """
    places: list[Place] = []
    counts = {"conv": 0, "fc": 0}
    incoming = None
    shapes = trace_shapes(architecture)
    for layer, block in enumerate(architecture.blocks):
        stem = "conv" if block.kind == "conv" else "fc"
        counts[stem] += 1
        name = f"{stem}{counts[stem]}"
        channels, height, width = shapes[layer]
        outgoing = None if layer == len(architecture.blocks) - 1 else f"p{layer}"
        kernel = (block.kernel, block.kernel) if block.kind == "conv" else ()
        fan_in = channels if block.kind == "conv" or block.average else channels * height * width
        kind: Kind = "conv" if block.kind == "conv" else "linear"
        offset = places[-1].stop if places else 0
        axes = (outgoing, incoming, *(None for _ in kernel))
        shape = (block.features, fan_in, *kernel)
        weight = Place(name=f"{name}.weight", kind=kind, layer=layer, shape=shape, offset=offset, axes=axes)
        bias = Place(
            name=f"{name}.bias", kind="bias", layer=layer, shape=shape[:1], offset=weight.stop, axes=(outgoing,)
        )
        places += [weight, bias] if block.bias else [weight]
        incoming = outgoing
    return Layout(places=tuple(places))


def max_pool(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels half_h half_w"]:
    """Take the maximum over 2x2 windows, dropping an odd last row or column.

    The maximum of four strided phases: `max_pool2d` is several times slower on a CPU in this memory format.
    """
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    x = x[..., :height, :width]
    rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def run_networks(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    images: Float[Tensor, "members batch channels height width"] | Float[Tensor, "batch channels height width"],
    activation: Activation,
    masks: Mapping[int, Float[Tensor, "members batch features"]] | None = None,
) -> Float[Tensor, "members batch classes"]:
    """Compute the logits of many members of one architecture and activation.

    Args:
        tensors: as `Layout.split` gives them, each `[members, *shape]`.
        images: one batch each, or one batch that all members see.
        masks: dropout factors (0 or 1/(1-p)) after each block that has dropout, by block number; features flattened.
    """
    parts = iter(tensors.values())
    members = next(iter(tensors.values())).shape[0]
    shared = images.ndim == 4
    if shared and architecture.blocks[0].kind == "linear":
        images, shared = images.expand(members, *images.shape), False
    x = images if shared else images.transpose(0, 1).flatten(1, 2)  # batch, members * channels, height, width
    batch = x.shape[0]
    for layer, block in enumerate(architecture.blocks):
        weight, bias = next(parts), next(parts) if block.bias else None
        if block.kind == "conv":
            groups = 1 if shared and layer == 0 else members
            flat_bias = None if bias is None else bias.flatten()
            x = F.conv2d(x, weight.flatten(0, 1), flat_bias, stride=block.stride, groups=groups)
            x = max_pool(x) if block.pool else x
        else:
            x = x.reshape(batch, members, weight.shape[2], -1).mean(-1) if block.average else x
            per_member = x.reshape(batch, members, -1).transpose(0, 1)
            shift = weight.new_zeros(members, 1, 1) if bias is None else bias.unsqueeze(1)
            x = torch.baddbmm(shift, per_member, weight.transpose(1, 2)).transpose(0, 1)
        x = ACTIVATIONS[activation](x) if block.activate else x
        if masks is not None and layer in masks:
            x = x * masks[layer].transpose(0, 1).reshape(x.shape)
    return x.reshape(batch, members, -1).transpose(0, 1)
