import math

import pytest
import torch

from tests.weightspace.samples.small_study import TOKENIZER
from weightspace.embeddings.summary import summarize_latents


def test_summary_is_mean_and_deviation_by_layer():
    num, d_latent = 2, 3
    latents = torch.arange(num * TOKENIZER.num_tokens * d_latent).reshape(num, -1, d_latent).float().sin()
    summary = summarize_latents(latents, TOKENIZER)
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


def test_order_of_a_layers_tokens_does_not_matter():
    latents = torch.randn(2, TOKENIZER.num_tokens, 3, generator=torch.Generator().manual_seed(0))
    turned = latents.clone()
    place = TOKENIZER.layer_tokens(1)
    turned[:, place] = latents[:, place].flip(1)
    assert not torch.equal(turned, latents)
    torch.testing.assert_close(summarize_latents(turned, TOKENIZER), summarize_latents(latents, TOKENIZER))
