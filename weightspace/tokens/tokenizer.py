"""Cut a weight vector into tokens of one length and put it together again."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.tokens.config import Dense, Sparse


@dataclass(frozen=True)
class Rows:
    """What one layer holds, as rows that no token crosses."""

    layer: int
    num_rows: int
    num_columns: int
    pieces: int
    """Tokens a row."""
    first: int
    """Global index of the layer's first token."""

    @property
    def num_tokens(self) -> int:
        """Count the layer's tokens."""
        return self.num_rows * self.pieces


def count_columns(layout: Layout, layer: int) -> tuple[int, int]:
    """Count a layer's output channels, and the numbers that belong to each: weights, bias, buffers."""
    places = layout.layer_places(layer)
    channels = places[0].shape[0]
    assert all(place.shape[0] == channels for place in places)
    return channels, sum(place.size for place in places) // channels


def widest_row(layout: Layout) -> int:
    """Return the most numbers that one output channel of any layer has: the token that never cuts one."""
    return max(count_columns(layout, layer)[1] for layer in range(layout.num_layers))


@dataclass(frozen=True)
class Tokenizer:
    """The tokens of one layout.

    Sparse: each output channel's incoming weights, then its bias, are cut into pieces of `d_token` numbers; a token
    never spans two channels. Dense: the same numbers of a whole layer are cut without regard to channels, so that
    less is padding. Padding is zero, at the end.

    Source: Schürholt et al., SANE (arXiv 2406.09997), section 2.
    Differs: `k`, the third part of a position, is the token's index within its layer, as in the paper; the released
    code repeats the channel's index for all pieces of a channel.
    """

    layout: Layout
    d_token: int
    """Numbers a token."""
    kind: Literal["sparse", "dense"] = "sparse"

    def __post_init__(self) -> None:
        if self.d_token < 1:
            raise BadInput(f"d_token: got {self.d_token}, wanted at least 1")

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """Describe the rows of each layer."""
        rows: list[Rows] = []
        for layer in range(self.layout.num_layers):
            channels, columns = count_columns(self.layout, layer)
            if self.kind == "dense":
                channels, columns = 1, channels * columns
            first = rows[-1].first + rows[-1].num_tokens if rows else 0
            rows.append(Rows(layer, channels, columns, -(-columns // self.d_token), first))
        return tuple(rows)

    @property
    def num_tokens(self) -> int:
        """Count the tokens of a network."""
        return self.rows[-1].first + self.rows[-1].num_tokens

    @cached_property
    def mask(self) -> Bool[Tensor, "tokens d_token"]:
        """Tell real numbers (True) from padding."""
        return self.tokenize(torch.ones(self.layout.num_weights)).bool()

    @cached_property
    def positions(self) -> Int64[Tensor, "tokens 3"]:
        """Number each token: in the network, its layer, in the layer."""
        parts = [(r.first + k, r.layer, k) for r in self.rows for k in range(r.num_tokens)]
        return torch.tensor(parts)

    def layer_tokens(self, layer: int) -> slice:
        """Return which tokens hold one layer."""
        rows = self.rows[layer]
        return slice(rows.first, rows.first + rows.num_tokens)

    def tokenize(self, weights: Float[Tensor, "*n weights"]) -> Float[Tensor, "*n tokens d_token"]:
        """Cut weight vectors into tokens."""
        lead = weights.shape[:-1]
        tokens = weights.new_zeros(*lead, self.num_tokens, self.d_token)
        for rows in self.rows:
            places = self.layout.layer_places(rows.layer)
            parts = [weights[..., p.offset : p.stop].reshape(*lead, p.shape[0], -1) for p in places]
            numbers = torch.cat(parts, dim=-1).reshape(*lead, rows.num_rows, rows.num_columns)
            padded = torch.nn.functional.pad(numbers, (0, rows.pieces * self.d_token - rows.num_columns))
            tokens[..., self.layer_tokens(rows.layer), :] = padded.reshape(*lead, rows.num_tokens, self.d_token)
        return tokens

    def detokenize(self, tokens: Float[Tensor, "*n tokens d_token"]) -> Float[Tensor, "*n weights"]:
        """Put weight vectors together from tokens; exact inverse of `tokenize`, whatever the padding holds."""
        lead = tokens.shape[:-2]
        parts: list[Tensor] = []
        for rows in self.rows:
            padded = tokens[..., self.layer_tokens(rows.layer), :].reshape(*lead, rows.num_rows, -1)
            places = self.layout.layer_places(rows.layer)
            numbers = padded[..., : rows.num_columns].reshape(*lead, places[0].shape[0], -1)
            widths = [place.size // place.shape[0] for place in places]
            parts += [part.reshape(*lead, -1) for part in numbers.split(widths, dim=-1)]
        return torch.cat(parts, dim=-1)


def build_tokenizers(layouts: Mapping[str, Layout], config: Sparse | Dense) -> dict[str, Tokenizer]:
    """Build the tokenizer of each layout that a configuration asks for, all with tokens of one width."""
    width = max(map(widest_row, layouts.values())) if config.d_token == "auto" else config.d_token
    return {name: Tokenizer(layout, width, config.kind) for name, layout in layouts.items()}


def build_tokenizer(layout: Layout, config: Sparse | Dense) -> Tokenizer:
    """Build the tokenizer that a configuration asks for."""
    return build_tokenizers({"": layout}, config)[""]
