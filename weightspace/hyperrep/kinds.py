"""Tell apart the numbers of a token: weights, biases, buffers, padding."""

import torch
from jaxtyping import Int64
from torch import Tensor

from weightspace.layout import Place
from weightspace.tokens.tokenizer import Tokenizer

PADDING, WEIGHT, BIAS, BUFFER = range(4)
KINDS = (WEIGHT, BIAS, BUFFER)


def tell_kind(place: Place) -> int:
    """Number the kind of a tensor's numbers."""
    if not place.trained:
        return BUFFER
    return BIAS if place.kind == "bias" else WEIGHT


def tell_kinds(tokenizer: Tokenizer) -> Int64[Tensor, "tokens d_token"]:
    """Number the kind of each number of each token."""
    parts = [torch.full((place.size,), float(tell_kind(place))) for place in tokenizer.layout.places]
    return tokenizer.tokenize(torch.cat(parts)).long()
