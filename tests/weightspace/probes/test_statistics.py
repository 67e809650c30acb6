import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightspace.networks import build_cnn_s, build_layout
from weightspace.probes.statistics import describe_numbers, summarize_layers
from weightspace.tokens.tokenizer import Tokenizer, widest_row

LAYOUT = build_layout(build_cnn_s())
WEIGHTS = np.random.default_rng(0).standard_normal((3, LAYOUT.num_weights)).astype(np.float32)


def describe_slowly(numbers: np.ndarray) -> list[float]:
    percentiles = [np.percentile(numbers.astype(np.float64), q) for q in (1, 25, 50, 75, 99)]
    return [numbers.astype(np.float64).mean(), numbers.astype(np.float64).var(), *percentiles]


def list_parts(weights: np.ndarray, kind: str) -> list[np.ndarray]:
    """The numbers that are summed up together, with padding written out."""
    if kind == "statistics_pooled":
        tokenizer = Tokenizer(LAYOUT, widest_row(LAYOUT))
        tokens = tokenizer.tokenize(torch.from_numpy(weights)).numpy()
        return [tokens[tokenizer.layer_tokens(layer)].ravel() for layer in range(LAYOUT.num_layers)]
    named = LAYOUT.split(torch.from_numpy(weights))
    return [t.numpy().ravel() for name, t in named.items() if kind == "statistics_14" or name.endswith("weight")]


@pytest.mark.parametrize(("kind", "width"), [("statistics_7", 35), ("statistics_14", 70), ("statistics_pooled", 35)])
def test_statistics_equal_a_slow_loop(kind, width):
    found = summarize_layers(LAYOUT, WEIGHTS, kind)
    assert found.shape == (3, width)
    for row, weights in zip(found, WEIGHTS, strict=True):
        expected = np.concatenate([describe_slowly(part) for part in list_parts(weights, kind)])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_zeros_beside_a_row_count_as_if_they_were_written_out(numbers, zeros):
    row = np.array(numbers, np.float32)
    expected = describe_slowly(np.concatenate([row, np.zeros(zeros, np.float32)]))
    np.testing.assert_allclose(describe_numbers(row[None], zeros)[0], expected, rtol=1e-5, atol=1e-6)
