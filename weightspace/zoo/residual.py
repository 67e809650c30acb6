"""Build residual networks for small images, with the names of torchvision's and the stem of the CIFAR versions."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from weightspace.config import Config
from weightspace.networks import ACTIVATIONS, Activation

STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
"""Blocks of each stage, by depth."""
KERNELS = {18: (3, 3), 50: (1, 3, 1)}
"""Edges of the kernels of a block, by depth."""
WIDEN = {18: 1, 50: 4}
"""What leaves a block over what is inside it, by depth."""
Wire = tuple[str | None, str | None]
"""The permutations of a layer's outputs and of its inputs; None: they stay where they are."""


class ResidualNetwork(Config):
    """A residual network: a 3x3 stem with stride 1 and no pooling, four stages, a mean over the image, one layer."""

    kind: Literal["resnet"] = "resnet"
    name: str
    channels: int
    height: int
    width: int
    """Of the images."""
    num_classes: int
    depth: Literal[18, 50]
    first_channels: int
    """Of the first stage; each stage after it has twice as many as the one before."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


def describe_residual(
    depth: Literal[18, 50], first_channels: int, shape: tuple[int, int, int], num_classes: int
) -> ResidualNetwork:
    """Describe a residual network for images of any shape and some classes."""
    name = f"resnet{depth}" if first_channels == 64 else f"resnet{depth}_w{first_channels}"
    channels, height, width = shape
    return ResidualNetwork(
        name=name,
        channels=channels,
        height=height,
        width=width,
        num_classes=num_classes,
        depth=depth,
        first_channels=first_channels,
    )


class ResidualBlock(nn.Module):
    """Convolutions with a batch norm behind each, and a shortcut past them."""

    def __init__(
        self, kernels: tuple[int, ...], before: int, inside: int, after: int, stride: int, activation: Activation
    ) -> None:
        super().__init__()
        widths = [before, *[inside] * (len(kernels) - 1), after]
        self.num_convs, self.activation = len(kernels), ACTIVATIONS[activation]
        for number, kernel in enumerate(kernels):
            step = stride if number == kernels.index(3) else 1
            conv = nn.Conv2d(widths[number], widths[number + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number + 1}", conv)
            self.add_module(f"bn{number + 1}", nn.BatchNorm2d(widths[number + 1]))
        self.downsample: nn.Module | None = None
        if before != after or stride != 1:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of the input to the input."""
        y = x
        for number in range(1, self.num_convs + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            y = self.activation(y) if number < self.num_convs else y
        return self.activation(y + (x if self.downsample is None else self.downsample(x)))


class ResidualModule(nn.Module):
    """A whole residual network.

    Source: He et al. (arXiv 1512.03385); torchvision's `resnet18` and `resnet50` with the first convolution 3x3 at
    stride 1 and its pooling left out, as in the Model Zoos (arXiv 2209.14764).
    """

    def __init__(self, network: ResidualNetwork, activation: Activation) -> None:
        super().__init__()
        depth, inside = network.depth, network.first_channels
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(network.channels, inside, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        before = inside
        for stage, num_blocks in enumerate(STAGES[depth]):
            inside, blocks = network.first_channels * 2**stage, []
            for number in range(num_blocks):
                stride, after = 2 if stage and number == 0 else 1, inside * WIDEN[depth]
                blocks.append(ResidualBlock(KERNELS[depth], before, inside, after, stride, activation))
                before = after
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, network.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        x = self.activation(self.bn1(self.conv1(images)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


def list_wires(network: ResidualNetwork) -> Iterator[tuple[str, Wire]]:
    """Yield the layers as they run, each with its permutations.

    Blocks without a convolution on their shortcut add to one stream: `stream<n>` moves the outputs of all of them.
    """
    with torch.device("meta"):
        module = ResidualModule(network, "relu")
    stream, number = "stream0", 0
    yield "conv1", (stream, None)
    yield "bn1", (stream, None)
    for name, block in module.named_modules():
        if not isinstance(block, ResidualBlock):
            continue
        before = inside = stream
        number += block.downsample is not None
        stream = f"stream{number}"
        for conv in range(1, block.num_convs + 1):
            outside = stream if conv == block.num_convs else f"{name}.conv{conv}"
            yield f"{name}.conv{conv}", (outside, inside)
            yield f"{name}.bn{conv}", (outside, None)
            inside = outside
        if block.downsample is not None:
            yield f"{name}.downsample.0", (stream, before)
            yield f"{name}.downsample.1", (stream, None)
    yield "fc", (None, stream)
