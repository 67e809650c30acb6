"""Fit linear probes with a quadratic penalty, in closed form and float64."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Which rows a probe is fitted on and which choose its penalty."""

    train: Int64[np.ndarray, " train"]
    val: Int64[np.ndarray, " val"]


def predict_by_ridge(
    features: Float64[np.ndarray, "checkpoints features"],
    targets: Float64[np.ndarray, "checkpoints targets"],
    split: Split,
    penalties: Sequence[float],
    free_intercept: bool,
) -> Float64[np.ndarray, "checkpoints targets"]:
    """Fit one linear probe a target on train rows and predict all rows.

    Each target takes the penalty with the best R2 on validation rows. One matrix of products serves all penalties and
    targets, and one factorisation a penalty all targets.

    Args:
        free_intercept: False puts a column of ones beside the features and penalises it too, as published. True
            expects features of mean 0 on train rows.

    Source: Schürholt et al. (arXiv 2110.15288), released code: `(X'X + penalty) b = X'y`.
    """
    if not free_intercept:
        features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    center = y[split.train].mean(0) if free_intercept else torch.zeros(y.shape[1], dtype=y.dtype)
    y = y - center
    best = torch.full((y.shape[1],), torch.inf, dtype=y.dtype)
    chosen = torch.zeros(x.shape[1], y.shape[1], dtype=y.dtype)
    for coefficients in solve_ridge(x[split.train], y[split.train], penalties):
        error = (y[split.val] - x[split.val] @ coefficients).square().sum(0)
        chosen = torch.where(error < best, coefficients, chosen)
        best = best.minimum(error)
    return (x @ chosen + center).numpy()


def solve_ridge(
    x: Float64[Tensor, "rows features"], y: Float64[Tensor, "rows targets"], penalties: Sequence[float]
) -> Iterator[Float64[Tensor, "features targets"]]:
    """Yield the coefficients for each penalty, largest penalty first; one too small for float64 is left out.

    Works in the space of rows where those are fewer than features. A Cholesky factorisation a penalty takes less time
    than one eigendecomposition for all: 6.3 against 16.3 seconds at 2,464 features and 17 penalties, measured side
    by side on two shared cores.
    """
    wide = x.shape[1] > x.shape[0]
    products = x @ x.T if wide else x.T @ x
    right = y if wide else x.T @ y
    for penalty in sorted(penalties, reverse=True):
        matrix = products.clone()
        matrix.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            logger.info("ridge: penalty %g is lost in rounding and left out", penalty)
            continue
        solution = torch.cholesky_solve(right, factor)
        yield x.T @ solution if wide else solution
