"""Start the linear path at the principal directions of each layer's tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from weightspace.hyperrep.batches import Pool
from weightspace.hyperrep.config import LossConfig
from weightspace.hyperrep.kinds import PADDING, tell_kinds
from weightspace.hyperrep.loss import number_groups, weigh_groups
from weightspace.hyperrep.mixture import Part
from weightspace.hyperrep.model import Autoencoder
from weightspace.tokens.tokenizer import Tokenizer

NETWORKS_AT_ONCE = 1024
MOST_NETWORKS = 2**16
"""Of more, so many at equal steps are looked at."""
LEAST_SPREAD = 1e-5
"""A direction whose spread is less than this part of the largest is left out."""


def measure_directions(
    pool: Pool, tokenizer: Tokenizer, rules: LossConfig, spreads: Float[Tensor, " layers"] | None
) -> tuple[Float64[Tensor, "layers d_token d_token"], Float64[Tensor, "layers d_token"]]:
    """Measure what the loss sees of each layer's tokens.

    Returns:
        The mean outer product of tokens whose numbers are multiplied by the root of what their errors cost, and the
        typical such root of each place in a token.
    """
    kinds = tell_kinds(tokenizer)
    groups = number_groups(tokenizer.positions, rules.normalization)
    group = groups.gather(1, (kinds - 1).clamp_min(0))
    num_layers, d_token = tokenizer.layout.num_layers, tokenizer.d_token
    outer = torch.zeros(num_layers, d_token, d_token, dtype=torch.float64)
    logs = torch.zeros(tokenizer.num_tokens, d_token, dtype=torch.float64)
    chosen = pool.thin_out(MOST_NETWORKS)
    for part in chosen.split(NETWORKS_AT_ONCE):
        tokens = tokenizer.tokenize(pool.take(part))
        costs = weigh_groups(tokens, kinds, groups, rules, spreads).expand(len(tokens), -1)[:, group]
        logs += costs.double().log().sum(0)
        seen = tokens * costs.sqrt()
        for layer in range(num_layers):
            rows = seen[:, tokenizer.layer_tokens(layer)].flatten(0, 1).double()
            outer[layer] += rows.T @ rows * len(part) / len(rows)
    costs = (logs / len(chosen)).exp().where(kinds != PADDING, 0)
    parts = [costs[tokenizer.layer_tokens(layer)].mean(0).sqrt() for layer in range(num_layers)]
    return outer / len(chosen), torch.stack(parts)


def pool_directions(
    parts: Sequence[Part], rules: LossConfig, spreads: Float[Tensor, "layouts layers"] | None
) -> tuple[Float64[Tensor, "layers d_token d_token"], Float64[Tensor, "layers d_token"]]:
    """Measure what the loss sees of the tokens of the n-th layer of each layout, weighted by how often it is drawn."""
    tokenizers = [part.batching.tokenizer for part in parts]
    num_layers, d_token = max(one.layout.num_layers for one in tokenizers), tokenizers[0].d_token
    outer = torch.zeros(num_layers, d_token, d_token, dtype=torch.float64)
    roots, weights = torch.zeros(num_layers, d_token, dtype=torch.float64), torch.zeros(num_layers, 1)
    total = sum(part.share for part in parts)
    for number, (part, tokenizer) in enumerate(zip(parts, tokenizers, strict=True)):
        found = measure_directions(part.pool, tokenizer, rules, None if spreads is None else spreads[number])
        own, weight = slice(tokenizer.layout.num_layers), part.share / total
        outer[own] += weight * found[0]
        roots[own] += weight * found[1]
        weights[own] += weight
    return outer, roots / weights.clamp_min(torch.finfo().tiny)


def start_at_principal(
    model: Autoencoder,
    parts: Sequence[Part],
    rules: LossConfig,
    spreads: Float[Tensor, "layouts layers"] | None,
) -> None:
    """Set the linear path to each layer's principal directions, and what the transformers add to zero.

    Before its first step the model is then about the best linear autoencoder of single tokens, by the loss it is
    trained on. Each latent number is scaled to a spread of 1.
    """
    assert model.path_in is not None
    assert model.path_out is not None
    outer, roots = pool_directions(parts, rules, spreads)
    for maps in (model.path_in.maps, model.path_out.maps, *model.to_latent.parameters(), *model.to_token.parameters()):
        maps.data.zero_()
    for layer, root in enumerate(roots):
        values, vectors = torch.linalg.eigh(outer[layer])
        spread = values.clamp_min(0).sqrt().flip(0)[: model.config.d_latent]
        kept = spread > LEAST_SPREAD * spread[0]
        directions, spread = vectors.flip(1)[:, : len(spread)][:, kept], spread[kept]
        inverse = torch.where(root > 0, 1 / root, 0)
        model.path_in.maps.data[layer, : len(spread)] = ((directions / spread).T * root).float()
        model.path_out.maps.data[layer, :, : len(spread)] = (inverse[:, None] * directions * spread).float()
