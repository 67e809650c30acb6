"""Sum up the latents of a network's tokens as one vector of fixed length."""

import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.tokens.tokenizer import Tokenizer


def summarize_latents(
    latents: Float[Tensor, "networks tokens d_latent"], tokenizer: Tokenizer
) -> Float[Tensor, "networks d_summary"]:
    """Return mean and standard deviation of each latent number over the tokens of each layer, layer by layer.

    Differs: SANE takes one mean over all tokens, in which layers cancel and the size of weights is lost.
    """
    parts: list[Tensor] = []
    for layer in range(tokenizer.layout.num_layers):
        part = latents[:, tokenizer.layer_tokens(layer)]
        parts += [part.mean(1), part.std(1, correction=0)]
    return torch.cat(parts, dim=1)
