"""Scale features before a linear probe reads them."""

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.special import ndtri

from weightspace.probes.config import Scaling


def scale_columns(
    values: Float[np.ndarray, "checkpoints features"], train: Int64[np.ndarray, " train"], scaling: Scaling
) -> Float64[np.ndarray, "checkpoints features"]:
    """Scale each column by its train rows; one that never varies there becomes 0, unless scaling is `none`."""
    values = values.astype(np.float64)
    if scaling == "none":
        return values
    if scaling == "ranks":
        values = np.stack([score_ranks(column, train) for column in values.T], axis=1)
    mean, std = values[train].mean(0), values[train].std(0)
    varies = std > 1e-12 * np.abs(values[train]).max(0)  # rounding alone stays below this
    return np.where(varies, (values - mean) / np.where(varies, std, 1), 0)


def score_ranks(
    values: Float64[np.ndarray, " checkpoints"], train: Int64[np.ndarray, " train"]
) -> Float64[np.ndarray, " checkpoints"]:
    """Turn a feature into normal scores of its ranks among train rows; values between two of these share a score."""
    ordered = np.sort(values[train])
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    edge = 0.5 / len(ordered)
    return ndtri(np.clip(places / (2 * len(ordered)), edge, 1 - edge))
