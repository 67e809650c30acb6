"""Write Python source of kernels for the fused CPU engine: indented lines, and the shapes of blocks they are for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from weightspace.networks import Architecture, trace_shapes
from weightspace.zoo.fused_vectors import HAS_AVX512

NUM_REGISTERS = 32 if HAS_AVX512 else 16
"""How many vectors the processor's registers hold; half as many without AVX. Decides about speed only."""
POOL = 2
HEADER = """\
from weightspace.zoo.fused_maths import exp_negative, mix_bits, normal_tail, sigmoid, tanh
from weightspace.zoo.fused_vectors import (
    absolute, fma, load, load_at, load_mask, load_words, repeat_word, select, select_mask, sqrt, store, store_mask,
    zeros
)


"""


class Source:
    """Lines of a function, indented by the loops they stand in."""

    def __init__(self, arguments: str) -> None:
        self.lines = [f"def kernel({arguments}):"]
        self.depth = 1

    def add(self, *lines: str) -> None:
        """Append lines at the present depth."""
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def loop(self, name: str, count: int | str) -> Iterator[None]:
        """Indent what follows under a loop."""
        self.add(f"for {name} in range({count}):")
        self.depth += 1
        yield
        self.depth -= 1

    def text(self) -> str:
        """Return a module that holds the function."""
        return HEADER + "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Convolution:
    """Shape of a convolution without padding, and whether maxima over 2x2 windows follow."""

    channels: int
    height: int
    width: int
    features: int
    kernel: int
    stride: int
    pool: bool
    bias: bool

    @property
    def edge(self) -> int:
        """Return the edge of the square of positions that one output looks at."""
        return POOL if self.pool else 1

    @property
    def pitch(self) -> int:
        """Return how many inputs lie between what neighbouring outputs look at."""
        return self.edge * self.stride

    @property
    def patch(self) -> int:
        """Return the edge of the square of inputs that one output looks at."""
        return self.kernel + (self.edge - 1) * self.stride

    @property
    def rows(self) -> int:
        """Count rows of outputs."""
        return ((self.height - self.kernel) // self.stride + 1) // self.edge

    @property
    def columns(self) -> int:
        """Count columns of outputs."""
        return ((self.width - self.kernel) // self.stride + 1) // self.edge

    @property
    def weights_per_feature(self) -> int:
        """Count weights of one output channel."""
        return self.channels * self.kernel**2

    @property
    def num_units(self) -> int:
        """Count outputs."""
        return self.features * self.rows * self.columns


@dataclass(frozen=True)
class Linear:
    """Shape of a linear layer."""

    inputs: int
    features: int
    positions: int
    """How many numbers each input is the mean of; they lie side by side."""
    bias: bool
    edge = 1

    @property
    def weights_per_feature(self) -> int:
        """Count weights of one neuron."""
        return self.inputs

    @property
    def num_units(self) -> int:
        """Count outputs."""
        return self.features


def split_evenly(total: int, most: int) -> list[tuple[int, int, int]]:
    """Cut a range into runs of tiles no larger than `most`: (start, size, how many).

    One run if tiles of one size, at least half of `most`, fit exactly; else two, of sizes that differ by 1.
    """
    for size in range(most, most // 2, -1):
        if total % size == 0:
            return [(0, size, total // size)]
    tiles = -(-total // most)
    size, larger = divmod(total, tiles)
    runs = [(0, size + 1, larger), (larger * (size + 1), size, tiles - larger)]
    return [run for run in runs if run[2]]


def list_shapes(architecture: Architecture) -> list[Convolution | Linear]:
    """Describe the blocks of an architecture."""
    shapes: list[Convolution | Linear] = []
    for block, (channels, height, width) in zip(architecture.blocks, trace_shapes(architecture), strict=False):
        if block.kind == "conv":
            window = block.features, block.kernel, block.stride, block.pool, block.bias
            shapes.append(Convolution(channels, height, width, *window))
        else:
            inputs, positions = (channels, height * width) if block.average else (channels * height * width, 1)
            shapes.append(Linear(inputs, block.features, positions, block.bias))
    return shapes
