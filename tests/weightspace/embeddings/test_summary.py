import math

import pytest
import torch

from tests.weightspace.samples.small_study import TOKENIZER
from weightspace.embeddings.summary import summarize_tokens


def test_summary_is_mean_and_deviation_by_layer():
    num, d_latent = 2, 3
    latents = torch.arange(num * TOKENIZER.num_tokens * d_latent).reshape(num, -1, d_latent).float().sin()
    summary = summarize_tokens(latents, latents, TOKENIZER, "latents")
    for i in range(num):
        wanted: list[float] = []
        for layer in range(TOKENIZER.layout.num_layers):
            place = TOKENIZER.layer_tokens(layer)
            columns = [[float(latents[i, t, d]) for t in range(place.start, place.stop)] for d in range(d_latent)]
            means = [sum(column) / len(column) for column in columns]
            wanted += means
            for column, mean in zip(columns, means, strict=True):
                wanted.append(math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)))
        assert summary[i].tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", ["features", "latents", "pooled"])
def test_order_of_a_layers_tokens_does_not_matter(kind):
    latents, features = torch.randn(2, 2, TOKENIZER.num_tokens, 3, generator=torch.Generator().manual_seed(0))
    place = TOKENIZER.layer_tokens(1)

    def turn(tokens):
        turned = tokens.clone()
        turned[:, place] = tokens[:, place].flip(1)
        return turned

    assert not torch.equal(turn(latents), latents)
    turned = summarize_tokens(turn(latents), turn(features), TOKENIZER, kind)
    torch.testing.assert_close(turned, summarize_tokens(latents, features, TOKENIZER, kind))


def test_features_are_averaged_by_layer_and_latents_pooled():
    latents, features = torch.randn(2, 2, TOKENIZER.num_tokens, 3, generator=torch.Generator().manual_seed(0))
    summary = summarize_tokens(latents, features, TOKENIZER, "features")
    for layer in range(TOKENIZER.layout.num_layers):
        wanted = features[:, TOKENIZER.layer_tokens(layer)].mean(1)
        torch.testing.assert_close(summary[:, 3 * layer : 3 * layer + 3], wanted)
    torch.testing.assert_close(summarize_tokens(latents, features, TOKENIZER, "pooled"), latents.mean(1))
