"""Tell the transformer where in the network a token stands, and how large it is."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

FREQUENCY = 0.5
"""Spread of the frequencies of `Waves` before training."""
PERIOD = 10_000.0
"""Longest wavelength of the sinusoids over 2 pi. Source: Vaswani et al. (arXiv 1706.03762), section 3.5."""


def make_sinusoids(index: Int64[Tensor, "*shape"], width: int) -> Float[Tensor, "*shape {width}"]:
    """Return sines and cosines of an index, of wavelengths from 2 pi to `PERIOD` times that."""
    rate = PERIOD ** -(torch.arange(0, width, 2, device=index.device) / width)
    angle = index.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PositionTable(nn.Module):
    """Vectors for the values of one index, at any value."""

    def __init__(self, num_positions: int, width: int, kind: Literal["learned", "sinusoidal"]) -> None:
        super().__init__()
        table = make_sinusoids(torch.arange(num_positions), width)
        self.table = nn.Parameter(table) if kind == "learned" else None
        self.width = width

    def forward(self, index: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape width"]:
        """Look up what was learned, and the sinusoid beyond it."""
        sinusoids = make_sinusoids(index, self.width)
        if self.table is None:
            return sinusoids
        num_positions = len(self.table)
        learned = self.table[index.clamp(max=num_positions - 1)]
        return torch.where((index < num_positions).unsqueeze(-1), learned, sinusoids)


class Positions(nn.Module):
    """Vector of a token at (n in the network, layer l, k in its layer): `[E1[n] + E2[l], E3[k]]`.

    Source: SANE (arXiv 2406.09997), section 2.
    """

    def __init__(
        self, num_positions: tuple[int, int, int], d_model: int, kind: Literal["learned", "sinusoidal"]
    ) -> None:
        super().__init__()
        self.in_network, self.layer, self.in_layer = (PositionTable(n, d_model // 2, kind) for n in num_positions)

    def forward(self, positions: Int64[Tensor, "*batch tokens 3"]) -> Float[Tensor, "*batch tokens d_model"]:
        """Look up each token's vector."""
        n, layer, k = positions.unbind(-1)
        return torch.cat([self.in_network(n) + self.layer(layer), self.in_layer(k)], dim=-1)


class Waves(nn.Module):
    """Vectors for points of a space: sines of random directions, so that what is linear in them is not in the point.

    Source: Rahimi and Recht, Random Features for Large-Scale Kernel Machines (2007); here they are learned further.
    """

    def __init__(self, d_in: int, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(d_in, width))
        self.phases = nn.Parameter(torch.empty(width))

    def draw(self, generator: torch.Generator) -> None:
        """Draw frequencies and phases."""
        self.frequencies.data.normal_(0, FREQUENCY, generator=generator)
        self.phases.data.uniform_(0, 2 * math.pi, generator=generator)

    def forward(self, x: Float[Tensor, "*shape d_in"]) -> Float[Tensor, "*shape width"]:
        """Return the sines at each point."""
        return (x @ self.frequencies + self.phases).sin()
