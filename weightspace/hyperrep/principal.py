"""Start the linear path at the principal directions of each layer's tokens."""

import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.hyperrep.batches import Pool
from weightspace.hyperrep.model import Autoencoder, measure_scale
from weightspace.tokens.tokenizer import Tokenizer

ROWS_AT_ONCE = 1024


def measure_moments(pool: Pool, tokenizer: Tokenizer, scaled: bool) -> Float[Tensor, "layers d_token d_token"]:
    """Sum the outer products of each layer's tokens, in float64."""
    count = tokenizer.mask.sum(-1, keepdim=True)
    moments = torch.zeros(tokenizer.layout.num_layers, tokenizer.d_token, tokenizer.d_token, dtype=torch.float64)
    for weights in pool.weights.split(ROWS_AT_ONCE):
        tokens = tokenizer.tokenize(weights).double()
        tokens = tokens / measure_scale(tokens, count) if scaled else tokens
        for layer in range(len(moments)):
            rows = tokens[:, tokenizer.layer_tokens(layer)].flatten(0, 1)
            moments[layer] += rows.T @ rows
    return moments


def start_at_principal(model: Autoencoder, pool: Pool, tokenizer: Tokenizer) -> None:
    """Set the linear path to each layer's principal directions, and what the transformers add to zero.

    Before its first step, the model is then the best linear autoencoder of single tokens.
    """
    assert model.path_in is not None
    assert model.path_out is not None
    moments = measure_moments(pool, tokenizer, model.config.token_scale)
    directions = torch.linalg.eigh(moments).eigenvectors.flip(-1)[..., : model.config.d_latent].float()
    kept = directions.shape[-1]
    for maps in (model.path_in.maps, model.path_out.maps):
        maps.data.zero_()
    model.path_in.maps.data[:, :kept] = directions.transpose(1, 2)
    model.path_out.maps.data[:, :, :kept] = directions
    for transformer in (model.encoder, model.decoder):
        transformer.out.weight.data.zero_()
        transformer.out.bias.data.zero_()
