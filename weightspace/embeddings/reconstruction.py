"""Measure what a reconstruction loses, and what principal components of the same size would lose."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.layout import Layout
from weightspace.schema import ZOO

FIT_ROWS = 8192
"""Principal components are fitted on at most this many train checkpoints, at equal steps."""
ALL_LAYERS = "all"


@dataclass(frozen=True)
class PrincipalComponents:
    """The linear representation that loses least of what it was fitted on."""

    mean: Float[Tensor, " weights"]
    directions: Float[Tensor, "components weights"]
    """Orthonormal."""

    def reconstruct(self, weights: Float[Tensor, "networks weights"]) -> Float[Tensor, "networks weights"]:
        """Project onto the components and back."""
        centred = weights - self.mean
        return self.mean + (centred @ self.directions.T) @ self.directions


def fit_components(weights: Float[Tensor, "networks weights"], num_components: int) -> PrincipalComponents:
    """Fit at most `num_components` principal components, fewer where the networks span no more."""
    weights = weights[:: -(-len(weights) // FIT_ROWS)]
    mean = weights.mean(0)
    centred = weights - mean
    wide = centred.shape[0] < centred.shape[1]
    if wide:  # in float32, what the networks do not span would drown in rounding and pass for a component
        centred = centred.double()
    gram = centred @ centred.T if wide else centred.T @ centred
    values, vectors = torch.linalg.eigh(gram.double())
    keep = (values > values[-1] * 1e-9).nonzero().flatten()[-num_components:].flip(0)
    directions = vectors[:, keep].T
    if wide:
        directions = (directions / values[keep].sqrt().unsqueeze(1)) @ centred
    return PrincipalComponents(mean, directions.to(weights.dtype))


def measure_errors(
    layout: Layout,
    weights: Float[Tensor, "networks weights"],
    reconstructed: Float[Tensor, "networks weights"],
    mean: Float[Tensor, " weights"],
) -> dict[str, Float[np.ndarray, " networks"]]:
    """Measure for each network the squared error over its squared distance from the mean: 1 says no better than it.

    All in standardised weights.

    Returns:
        By layer name; `all` is the whole network.
    """
    error, spread = (reconstructed - weights).square(), (weights - mean).square()
    spans = {layout.layer_name(layer): layout.layer_slice(layer) for layer in range(layout.num_layers)}
    spans[ALL_LAYERS] = slice(None)
    return {name: (error[:, span].sum(1) / spread[:, span].sum(1)).cpu().numpy() for name, span in spans.items()}


def tabulate_errors(rows: pd.DataFrame, method: str, errors: dict[str, Float[np.ndarray, " networks"]]) -> pd.DataFrame:
    """List errors as `member`, `epoch`, `split`, `method`, `layer`, `error`, layer by layer; `zoo` if that is told."""
    keys = rows[[key for key in ("member", "epoch", "split", ZOO) if key in rows]]
    return pd.concat([keys.assign(method=method, layer=layer, error=error) for layer, error in errors.items()])
