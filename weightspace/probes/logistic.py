"""Fit linear probes of classes."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from weightspace.probes.ridge import Split


def predict_by_logistic(
    features: Float64[np.ndarray, "checkpoints features"],
    classes: np.ndarray,
    split: Split,
    penalties: Sequence[float],
    iterations: int,
) -> np.ndarray:
    """Fit a multinomial logistic probe on train rows and predict the class of all rows.

    The penalty with the best accuracy on validation rows counts, the largest of several as good.
    """
    x = features.astype(np.float32)
    # A larger penalty is quicker to fit and a good start for the next.
    probe = LogisticRegression(max_iter=iterations, warm_start=True, tol=1e-3)
    best, chosen = -1.0, classes
    for penalty in sorted(penalties, reverse=True):
        probe.set_params(C=1 / penalty)
        fit_quietly(probe, x[split.train], classes[split.train])
        predicted = np.asarray(probe.predict(x))
        accuracy = float((predicted[split.val] == classes[split.val]).mean())
        if accuracy > best:
            best, chosen = accuracy, predicted
    return chosen


def fit_quietly(probe: LogisticRegression, x: Float32[np.ndarray, "rows features"], classes: np.ndarray) -> None:
    """Fit, content with what the bound on iterations allows: validation judges a probe that stopped early as well."""
    with warnings.catch_warnings(), threadpool_limits(1):  # one thread as for boosted trees
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(x, classes)


def predict_majority(classes: np.ndarray, split: Split) -> np.ndarray:
    """Predict for all rows the commonest class of train rows: a logistic probe without features."""
    values, counts = np.unique(classes[split.train], return_counts=True)
    return np.full(len(classes), values[counts.argmax()])
