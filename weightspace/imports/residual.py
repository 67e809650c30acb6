"""Wire a residual network by the names that torchvision, timm and the usual CIFAR versions give its modules.

These are `conv1`, `bn1`, blocks `layer<stage>.<number>` with `conv<k>`, `bn<k>` and, where a block changes the stream,
`downsample.<k>` or `shortcut.<k>`; then `fc`, `linear` or `classifier`. Any width, depth, number of stages, and number
of convolutions in a block; batch norms everywhere or nowhere.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from weightspace.imports.layers import Layer, Wire, Wired, describe_misfit

BLOCK = re.compile(r"(?:.*\.)?layer(\d+)\.(\d+)\.conv\d+")
PART = re.compile(r"(?:(layer\d+\.\d+)\.)?(?:(conv|bn)(\d+)|(downsample|shortcut)\.\d+)")
HEADS = ("fc", "linear", "classifier")
SHORTCUT = 0
"""Key of a shortcut's convolution and norm, beside those that are numbered from 1."""


class MisfitError(Exception):
    """Names promise a residual network, and the tensors are none that is known."""


@dataclass
class Block:
    """Convolutions that feed one another, each with the batch norm behind it, and a shortcut past them."""

    name: str
    convs: dict[int, Layer] = field(default_factory=dict)
    norms: dict[int, Layer] = field(default_factory=dict)

    @property
    def path(self) -> list[Layer]:
        """The convolutions beside the shortcut, as they run."""
        return [self.convs[number] for number in sorted(self.convs) if number != SHORTCUT]

    @property
    def num_outputs(self) -> int:
        """Count the channels that it adds to its stream."""
        return self.path[-1].num_outputs


def looks_residual(layers: Sequence[Layer]) -> bool:
    """Tell whether any layer is named as in a block of a residual network."""
    return any(BLOCK.fullmatch(layer.module) for layer in layers)


def wire_residual(layers: Sequence[Layer]) -> tuple[list[Wired], str | None]:
    """Bring layers to the order in which they run and name their permutations; or say why that cannot be done.

    Blocks without a shortcut of their own add to one stream: `stream<n>` moves the outputs of all of them. What runs
    inside a block has permutations of its own. A block that widens its stream without a shortcut pads it with zeros,
    in places that the tensors do not tell: the streams on both sides of it stay as they are.
    """
    try:
        stem, blocks, head = sort_modules(layers)
        check_norms(layers, [stem, *blocks])
        return list(wire_blocks(stem, blocks, head)), None
    except MisfitError as misfit:
        return [], str(misfit)


def sort_modules(layers: Sequence[Layer]) -> tuple[Block, list[Block], Layer]:
    """Sort layers into what comes before the blocks, the blocks in their order, and the head."""
    prefix = find_prefix(layers)
    blocks: dict[str, Block] = {}
    heads: list[Layer] = []
    for layer in layers:
        name = layer.module.removeprefix(prefix)
        match = PART.fullmatch(name)
        if match is not None:
            block = blocks.setdefault(match[1] or "", Block(match[1] or ""))
            put_layer(block, layer, SHORTCUT if match[4] else int(match[3]))
        elif name in HEADS and layer.kind == "linear":
            heads.append(layer)
        else:
            raise MisfitError(f"{layer.names[0]} is in no residual network that is known")
    stem = blocks.pop("", None)
    if stem is None or list(stem.convs) != [1] or len(heads) != 1:
        raise MisfitError("a residual network has conv1 before its blocks and one linear layer behind them")
    order = sorted(blocks, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    return stem, [blocks[name] for name in order], heads[0]


def find_prefix(layers: Sequence[Layer]) -> str:
    """Return what stands before the names of all layers, such as `model.`."""
    first = next(layer.module for layer in layers if BLOCK.fullmatch(layer.module))
    return first[: first.rindex("layer")]


def put_layer(block: Block, layer: Layer, number: int) -> None:
    """Add a convolution or a norm to a block; which it is, its tensors say."""
    side = block.convs if layer.kind == "conv" else block.norms if layer.is_batch_norm else None
    if side is None:
        raise MisfitError(f"{layer.names[0]} of shape {layer.shapes[0]} is neither convolution nor batch norm")
    if number in side:
        raise MisfitError(f"{layer.names[0]} stands where {side[number].names[0]} does")
    side[number] = layer


def check_norms(layers: Sequence[Layer], blocks: Sequence[Block]) -> None:
    """Refuse norms that do not follow the convolution of their number.

    Where each norm stands before its convolution, the file may be in the order of the alphabet; where only some do,
    the network is one that norms before it convolves.
    """
    order = {layer.module: number for number, layer in enumerate(layers)}
    follows: set[bool] = set()
    for block in blocks:
        for number, conv in block.convs.items():
            norm = block.norms.get(number)
            if norm is None and not any(one.norms for one in blocks):
                continue
            if norm is None or norm.num_outputs != conv.num_outputs:
                raise MisfitError(f"{conv.names[0]} has no batch norm of its {conv.num_outputs} channels behind it")
            if number != SHORTCUT:  # its modules are numbered: they follow one another in the alphabet, too
                follows.add(order[norm.module] > order[conv.module])
        if block.norms.keys() - block.convs.keys() or not block.convs.keys() - {SHORTCUT}:
            raise MisfitError(f"{block.name or 'the stem'} has a norm or a shortcut without convolution")
    if len(follows) > 1:
        raise MisfitError("some norms stand before their convolutions, wanted all behind them")


def name_streams(stem: Block, blocks: Sequence[Block]) -> list[str | None]:
    """Name the permutation of what leaves the stem and each block: a shortcut starts another one, padding does not."""
    numbers, width = [0], stem.num_outputs
    padded: set[int] = set()
    for block in blocks:
        numbers.append(numbers[-1] + (SHORTCUT in block.convs))
        if SHORTCUT not in block.convs and block.num_outputs > width:
            padded.add(numbers[-1])
        width = block.num_outputs
    return [None if number in padded else f"stream{number}" for number in numbers]


def wire_blocks(stem: Block, blocks: Sequence[Block], head: Layer) -> Iterator[Wired]:
    """Yield the layers as they run, each with its permutations."""
    streams, width = name_streams(stem, blocks), stem.num_outputs
    yield from wire_pair(stem, 1, Wire(streams[0], None), stem.path[0].shapes[0][1])
    for block, (before, after) in zip(blocks, itertools.pairwise(streams), strict=True):
        yield from wire_block(block, before, after, width)
        width = block.num_outputs
    if head.shapes[0][1] % width:
        raise MisfitError(describe_misfit(head, width))
    yield head, Wire(None, streams[-1])


def wire_block(block: Block, before: str | None, after: str | None, width: int) -> Iterator[Wired]:
    """Yield the layers of one block between the stream before it, which is so wide, and the one behind it."""
    inside, inner = before, width
    numbers = sorted(block.convs.keys() - {SHORTCUT})
    for number in numbers:
        outgoing = after if number == numbers[-1] else f"{block.name}.conv{number}"
        yield from wire_pair(block, number, Wire(outgoing, inside), inner)
        inside, inner = outgoing, block.convs[number].num_outputs
    shortcut = block.convs.get(SHORTCUT)
    if shortcut is not None:
        yield from wire_pair(block, SHORTCUT, Wire(after, before), width)
    if (shortcut.num_outputs != inner) if shortcut is not None else inner < width:
        given = width if shortcut is None else shortcut.num_outputs
        raise MisfitError(f"{block.name} adds {inner} channels to {given}")


def wire_pair(block: Block, number: int, wire: Wire, width: int) -> Iterator[Wired]:
    """Yield a convolution, which takes so many channels, and the norm behind it."""
    conv = block.convs[number]
    if conv.shapes[0][1] != width:
        raise MisfitError(describe_misfit(conv, width))
    yield conv, wire
    if number in block.norms:
        yield block.norms[number], Wire(wire.outgoing, None)
