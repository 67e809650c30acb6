"""Compare what networks and their reconstructions do on images: what a representation keeps of them."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.reconstruction import ALL_LAYERS, measure_errors
from weightspace.embeddings.scores import read_activations, read_architecture, score_networks
from weightspace.hyperrep.hyperrep import Hyperrep
from weightspace.images.image_set import ImageSet, prepare_images
from weightspace.store import Checkpoints
from weightspace.weights.split import shuffle_members
from weightspace.zoo.train import check_images

ORDER_SEED = 0
"""Which members are compared depends on their names alone, so that those of two representations are the same."""
Rebuild = Callable[[Tensor], Tensor]
"""Aligned weights `[networks, weights]` in, and out what a representation makes of them."""


def compare_networks(
    kept: Checkpoints,
    rebuild: Mapping[str, Rebuild],
    hyperrep: Hyperrep,
    image_set: ImageSet,
    config: EmbeddingsConfig,
) -> pd.DataFrame:
    """Compare members with their reconstructions at the last epoch, drawn at random on the train and the test side.

    Args:
        kept: checkpoints that have not diverged.
        rebuild: by method.

    Returns:
        For each method and member: `error` as `measure_errors` has it for all layers, accuracies before and after, and
        `agreement`, the share of test images that get the same class.

    Raises:
        BadInput: the networks cannot be run, or not on these images.
    """
    architecture = read_architecture(kept, config.weights)
    check_images(architecture, image_set, config.images)
    images, layout = prepare_images(image_set, hyperrep.device), kept.layout
    chosen = kept.select(choose_networks(kept.table, config.kept_networks))
    activations = read_activations(chosen, config.weights)
    weights = torch.from_numpy(chosen.weights).to(hyperrep.device)
    standard, mean = hyperrep.statistics.standardize(layout, weights), average_train(kept, hyperrep)
    before = score_networks(architecture, weights, activations, images)
    parts: list[pd.DataFrame] = []
    for method, run in rebuild.items():
        again = run(weights)
        after = score_networks(architecture, again, activations, images)
        errors = measure_errors(layout, standard, hyperrep.statistics.standardize(layout, again), mean)
        found = chosen.table[["member", "split", "epoch", "activation"]].assign(
            method=method,
            error=errors[ALL_LAYERS],
            val_accuracy=before.val_accuracy,
            val_accuracy_reconstructed=after.val_accuracy,
            test_accuracy=before.test_accuracy,
            test_accuracy_reconstructed=after.test_accuracy,
            agreement=(before.answers == after.answers).mean(1),
        )
        parts.append(found)
    return pd.concat(parts, ignore_index=True)


def choose_networks(table: pd.DataFrame, num: int) -> Int64[np.ndarray, " rows"]:
    """Choose at most `num` members of the train side and as many of the test side, each at the last epoch."""
    last = np.flatnonzero(table["epoch"] == table["epoch"].max())
    rows: list[int] = []
    for split in ("train", "test"):
        side = last[table["split"].to_numpy()[last] == split]
        row = dict(zip(table["member"].to_numpy(str)[side].tolist(), side.tolist(), strict=True))
        rows += sorted(row[member] for member in shuffle_members(row, ORDER_SEED)[:num])
    return np.array(rows, np.int64)


def average_train(kept: Checkpoints, hyperrep: Hyperrep) -> Float[Tensor, " weights"]:
    """Take the mean of all standardised train checkpoints."""
    train = kept.weights[(kept.table["split"] == "train").to_numpy()]
    mean = torch.from_numpy(train.mean(0, dtype=np.float64, keepdims=True).astype(np.float32)).to(hyperrep.device)
    return hyperrep.statistics.standardize(hyperrep.layout, mean)[0]
