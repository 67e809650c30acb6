"""Sum up what a model says of a network's tokens as one vector of fixed length."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.tokens.tokenizer import Tokenizer


def summarize_tokens(
    latents: Float[Tensor, "networks latents d_latent"],
    features: Float[Tensor, "networks tokens d_model"],
    tokenizer: Tokenizer,
    kind: Literal["features", "latents", "pooled"],
) -> Float[Tensor, "networks d_summary"]:
    """Sum up the tokens of each network as `EmbeddingsConfig.summary` says.

    Differs: SANE takes one mean of all latents (`pooled`), in which layers mix; and a mean of what is linear in the
    weights does not say how large they are. Where a network has a single latent, that is what `pooled` and `latents`
    give, as published in 2021.
    """
    one_latent = latents.shape[1] < features.shape[1]
    if kind == "pooled" or (kind == "latents" and one_latent):
        return latents.mean(1)
    layers = [tokenizer.layer_tokens(layer) for layer in range(tokenizer.layout.num_layers)]
    if kind == "features":
        return torch.cat([features[:, layer].mean(1) for layer in layers], dim=1)
    parts: list[Tensor] = []
    for layer in layers:
        parts += [latents[:, layer].mean(1), latents[:, layer].std(1, correction=0)]
    return torch.cat(parts, dim=1)
