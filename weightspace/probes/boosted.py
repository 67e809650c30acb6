"""Fit boosted trees as probes that are not linear."""

import numpy as np
from jaxtyping import Float, Float64
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from weightspace.probes.config import BoostedConfig
from weightspace.probes.ridge import Split


def predict_by_boosting(
    features: Float[np.ndarray, "checkpoints features"],
    target: Float64[np.ndarray, " checkpoints"],
    split: Split,
    config: BoostedConfig,
    seed: int,
) -> Float64[np.ndarray, " checkpoints"]:
    """Fit boosted trees on train rows and predict all rows with as many trees as do best on validation rows.

    The library's own early stopping is off: it would set aside checkpoints, and those of one member would be on both
    sides.
    """
    trees = HistGradientBoostingRegressor(
        max_iter=config.iterations,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        max_bins=config.bins,
        early_stopping=False,  # pyright: ignore[reportArgumentType]  (its stub knows only the default)
        random_state=seed,
    )
    # One thread: fits this small gain nothing from two, and take twenty times as long when others use the cores.
    with threadpool_limits(1):
        trees.fit(features[split.train], target[split.train])
        errors = [np.square(p - target[split.val]).sum() for p in trees.staged_predict(features[split.val])]
        best = int(np.argmin(errors))
        return next(p for i, p in enumerate(trees.staged_predict(features)) if i == best)
