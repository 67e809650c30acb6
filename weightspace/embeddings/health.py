"""Measure how much of its latent space a hyper-representation uses."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Float64

from weightspace.embeddings.embeddings import Embeddings
from weightspace.schema import LAYOUT

HEALTH_NAME = "latent.parquet"
IDLE = 0.01
"""A dimension whose variance is less than this part of the median one counts as idle."""


def measure_health(
    tokens: Float32[np.ndarray, "checkpoints tokens d_latent"], table: pd.DataFrame
) -> list[dict[str, float | str]]:
    """Say for each side of the split how the latents of its networks are spread.

    Dimensions are looked at by how latents of one token differ between networks: what differs between tokens alone
    tells networks no better apart. `collapse` compares whole networks.
    """
    rows: list[dict[str, float | str]] = []
    for split in table["split"].unique():
        here = (table["split"] == split).to_numpy()
        latents, members = tokens[here].astype(np.float64), table["member"].to_numpy(str)[here]
        covariance = measure_covariance(latents)
        rows.append(
            {
                "split": str(split),
                "dimensions": float(len(covariance)),
                **describe_spread(covariance),
                "collapse": measure_collapse(latents.reshape(len(latents), -1), members),
            }
        )
    return rows


def measure_all_health(embeddings: Mapping[str, Embeddings]) -> list[dict[str, float | str]]:
    """Say how the latents of each layout are spread, with its name where there are several."""
    rows: list[dict[str, float | str]] = []
    for name, one in embeddings.items():
        assert one.tokens is not None
        found = measure_health(one.tokens, one.table)
        rows += found if len(embeddings) == 1 else [{LAYOUT: name, **row} for row in found]
    return rows


def measure_covariance(latents: Float64[np.ndarray, "networks tokens d_latent"]) -> Float64[np.ndarray, "d d"]:
    """Measure how the numbers of a latent vary together between networks, on average over tokens."""
    apart = (latents - latents.mean(0)).reshape(-1, latents.shape[2])
    return apart.T @ apart / len(apart)


def describe_spread(covariance: Float64[np.ndarray, "d d"]) -> dict[str, float]:
    """Count the dimensions in use, three ways; not a number where nothing varies.

    `participation` is the participation ratio of the principal variances, the square of their sum over the sum of their
    squares; `effective_rank` the exponential of the entropy of their shares; `idle` the share of the latent's own
    dimensions whose variance is less than a hundredth of the median one.

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007), for `effective_rank`.
    """
    variances = np.linalg.eigvalsh(covariance).clip(min=0)
    own, total = np.diag(covariance), variances.sum()
    if total == 0:
        return {"participation": np.nan, "effective_rank": np.nan, "idle": 1.0}
    shares = variances[variances > 0] / total
    return {
        "participation": float(total**2 / np.square(variances).sum()),
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        "idle": float((own < IDLE * np.median(own)).mean() if np.median(own) > 0 else (own == 0).mean()),
    }


def measure_collapse(latents: Float[np.ndarray, "networks numbers"], members: np.ndarray) -> float:
    """Return the mean cosine between networks of different members; 1: all are alike; not a number for one member."""
    sizes = np.linalg.norm(latents, axis=1, keepdims=True)
    units = latents / np.where(sizes > 0, sizes, 1)
    codes, counts = np.unique(members, return_inverse=True, return_counts=True)[1:]
    sums = np.zeros((len(counts), units.shape[1]))
    np.add.at(sums, codes, units)
    pairs = len(units) ** 2 - np.square(counts).sum()
    return float((np.square(sums.sum(0)).sum() - np.square(sums).sum()) / pairs) if pairs else np.nan


def write_health(folder: Path, rows: list[dict[str, float | str]]) -> None:
    """Write what was measured into a folder that exists."""
    pd.DataFrame(rows).to_parquet(folder / HEALTH_NAME, index=False)
