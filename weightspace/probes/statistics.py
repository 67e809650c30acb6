"""Sum up each layer's weights by mean, variance and percentiles: the baselines that are hard to beat.

Three kinds are in use, and published tables seldom say which one they mean, so there are all three.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from weightspace.layout import Layout
from weightspace.tokens.tokenizer import Tokenizer, widest_row

StatisticsKind = Literal["statistics_7", "statistics_14", "statistics_pooled"]
PERCENTILES = np.array([1, 25, 50, 75, 99])


def summarize_layers(
    layout: Layout, weights: Float32[np.ndarray, "checkpoints weights"], kind: StatisticsKind
) -> Float32[np.ndarray, "checkpoints features"]:
    """Compute mean, variance and percentiles 1, 25, 50, 75, 99 of parts of each layer.

    `statistics_7` looks at weights only, `statistics_14` at weights and at biases, `statistics_pooled` at weights,
    biases and the zeros that pad a layer's tokens, all in one.

    Source: Unterthiner et al. (arXiv 2002.11448) for `statistics_14`; the released code of the 2021
    hyper-representations (arXiv 2110.15288) for `statistics_7` and of SANE (arXiv 2406.09997) for `statistics_pooled`.
    """
    parts = [describe_numbers(numbers, zeros) for numbers, zeros in list_groups(layout, weights, kind)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def list_groups(
    layout: Layout, weights: Float32[np.ndarray, "checkpoints weights"], kind: StatisticsKind
) -> Iterator[tuple[Float32[np.ndarray, "checkpoints numbers"], int]]:
    """Yield the numbers that are summed up together, and how many zeros are counted with them."""
    if kind == "statistics_pooled":
        # SANE's token is as wide as the widest row of any layer.
        tokens = Tokenizer(layout, widest_row(layout))
        for layer in range(layout.num_layers):
            place = tokens.layer_tokens(layer)
            numbers = weights[:, layout.layer_slice(layer)]
            yield numbers, (place.stop - place.start) * tokens.d_token - numbers.shape[1]
        return
    for place in layout.places:
        if place.kind != "bias" or kind == "statistics_14":
            yield weights[:, place.offset : place.stop], 0


def describe_numbers(
    numbers: Float32[np.ndarray, "checkpoints numbers"], zeros: int
) -> Float[np.ndarray, "checkpoints 7"]:
    """Compute mean, variance and five percentiles of each row and some zeros beside it."""
    count = numbers.shape[1] + zeros
    mean = numbers.sum(1, dtype=np.float64) / count
    deviations = numbers - mean[:, None]
    variance = ((deviations**2).sum(1) + zeros * mean**2) / count
    return np.concatenate([mean[:, None], variance[:, None], find_percentiles(numbers, zeros)], axis=1)


def find_percentiles(
    numbers: Float32[np.ndarray, "checkpoints numbers"], zeros: int
) -> Float[np.ndarray, "checkpoints 5"]:
    """Find percentiles of each row and some zeros beside it, between neighbours by linear interpolation.

    The zeros are never written out: padding is three quarters of a small network's tokens.
    """
    ordered = np.sort(numbers, axis=1)
    negative = (ordered < 0).sum(1, keepdims=True)
    places = PERCENTILES / 100 * (numbers.shape[1] + zeros - 1)
    low = np.floor(places).astype(np.int64)
    high = np.ceil(places).astype(np.int64)

    def look_up(index: np.ndarray) -> np.ndarray:
        behind = np.maximum(index - zeros, 0)
        position = np.where(index < negative, np.minimum(index, ordered.shape[1] - 1), behind)
        found = np.take_along_axis(ordered, position, axis=1)
        return np.where((index >= negative) & (index < negative + zeros), 0.0, found)

    share = places - low
    return (1 - share) * look_up(low) + share * look_up(high)
