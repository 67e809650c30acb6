"""Generate samples and score them beside their baselines: one call for a whole table."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.scores import read_architecture, score_networks
from weightspace.images.image_set import ImageSet, PreparedImages, prepare_images
from weightspace.networks import Architecture
from weightspace.samples.anchors import Anchors, gather_anchors
from weightspace.samples.config import SamplesConfig
from weightspace.samples.novelty import Placed, compare_errors, find_nearest, measure_spread, place_networks
from weightspace.samples.rows import Decode, make_rows
from weightspace.store import Checkpoints
from weightspace.weights.weight_data import WeightData
from weightspace.zoo.train import check_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleTables:
    """What the stage leaves."""

    samples: Checkpoints
    """Every sample with its weights: row, sample, seen, member, activation, init."""
    scores: pd.DataFrame
    """Every sample with its accuracies, without training, and its novelty: distance to the nearest anchor and the
    images that both get wrong."""
    diversity: pd.DataFrame
    """For each row the median distance and the median error-IoU of its pairs."""


def generate_samples(
    config: SamplesConfig,
    data: WeightData,
    embeddings: Embeddings,
    decode: Decode,
    image_set: ImageSet,
    device: torch.device,
) -> SampleTables:
    """Draw every row of samples and score it without training.

    Anchors are chosen by validation accuracy; test images score and choose nothing.

    Raises:
        BadInput: the images do not fit the networks, or there is nothing to start from.
    """
    architecture = read_architecture(data.checkpoints, config.weights)
    check_images(architecture, image_set, config.images)
    images = prepare_images(image_set, device)
    anchors, unseen = (gather_anchors(config, data, embeddings, split) for split in ("train", "test"))
    logger.info("%d anchors, %d of unseen members", len(anchors.table), len(unseen.table))
    rows = list(make_rows(config, architecture, anchors, unseen, decode))
    table = pd.concat([row.table for row in rows], ignore_index=True)
    weights = np.concatenate([row.weights for row in rows])
    samples = Checkpoints(data.checkpoints.layout, table, weights, data.checkpoints.about)
    scores, diversity = score_samples(config, architecture, samples, anchors, images, data.reference.to(device))
    return SampleTables(samples, scores, diversity)


def score_samples(
    config: SamplesConfig,
    architecture: Architecture,
    samples: Checkpoints,
    anchors: Anchors,
    images: PreparedImages,
    reference: Float32[Tensor, " weights"],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score samples on images, and measure how far they are from anchors and from each other.

    Returns:
        The tables of scores and of diversity. Distances are in units of the median distance between anchors of
        different members.
    """
    layout, device = samples.layout, reference.device
    ours = place_networks(layout, torch.from_numpy(samples.weights).to(device), reference)
    theirs = place_networks(layout, torch.from_numpy(anchors.weights).to(device), reference)
    member = anchors.table["member"].to_numpy(str)
    unit = measure_spread(theirs, member[:, None] != member[None])
    nearest = find_nearest(layout, ours, theirs, config.candidates)
    outcome = score_networks(architecture, ours.as_given, samples.table["activation"].to_numpy(str), images)
    used, place = np.unique(nearest.anchor, return_inverse=True)
    shown = anchors.select(used)
    copied = score_networks(architecture, theirs.as_given[used], shown.table["activation"].to_numpy(str), images)
    scores = samples.table.assign(
        val_accuracy=outcome.val_accuracy,
        test_accuracy=outcome.test_accuracy,
        test_loss=outcome.test_loss,
        nearest_distance=nearest.distance / unit,
        error_iou=compare_errors(outcome.wrong, copied.wrong[place]),
    )
    return scores, measure_diversity(samples.table, ours, outcome.wrong, unit)


def measure_diversity(
    table: pd.DataFrame,
    networks: Placed,
    wrong: Bool[np.ndarray, "samples images"],
    unit: float,
) -> pd.DataFrame:
    """Tabulate for each row the median over pairs of samples of distance and of error-IoU."""
    found: list[dict[str, object]] = []
    for row in table["row"].unique():
        chosen = np.flatnonzero(table["row"] == row)
        distance = measure_spread(networks.select(chosen), ~np.eye(len(chosen), dtype=bool)) / unit
        first, second = np.triu_indices(len(chosen), 1)
        overlap = compare_errors(wrong[chosen][first], wrong[chosen][second])
        median = float(np.median(overlap)) if len(overlap) else float("nan")
        found.append({"row": row, "num_samples": len(chosen), "pairwise_distance": distance, "pairwise_iou": median})
    return pd.DataFrame(found)
