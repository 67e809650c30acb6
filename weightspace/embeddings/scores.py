"""Score networks of one architecture and several activations on images, as they are."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.config import BadInput
from weightspace.images.image_set import PreparedImages
from weightspace.networks import Activation, Architecture, read_chain
from weightspace.store import Checkpoints
from weightspace.zoo.evaluate import compute_logits

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclass(frozen=True)
class Outcome:
    """What networks do on images."""

    val_accuracy: Float32[np.ndarray, " networks"]
    """An output that is not finite is wrong, here and on test images."""
    test_accuracy: Float32[np.ndarray, " networks"]
    test_loss: Float32[np.ndarray, " networks"]
    answers: Int64[np.ndarray, "networks images"]
    """The class that each gives each test image, -1 where an output is not finite."""
    wrong: Bool[np.ndarray, "networks images"]
    """Which test images each gets wrong."""


def read_architecture(checkpoints: Checkpoints, name: str) -> Architecture:
    """Read which network the weights of the data set `name` belong to.

    Raises:
        BadInput: the data set does not say, so its weights cannot be run.
    """
    said = checkpoints.about.get("architecture")
    architecture = read_chain(said)
    if architecture is None:
        got = f"got {said['name']}, a {said['kind']}" if said else "no architecture in its metadata"
        raise BadInput(f"weights {name}: {got}, wanted one that can be run: a chain of blocks")
    return architecture


def read_activations(checkpoints: Checkpoints, name: str) -> np.ndarray:
    """Read which activation each network of the data set `name` has.

    Raises:
        BadInput: the data set does not say, or one cannot be run.
    """
    said = checkpoints.table.get("activation")
    names = np.array(["nothing"]) if said is None else said.astype("str").fillna("nothing").to_numpy(str)
    check_activations(names, f"weights {name}")
    return names


def check_activations(names: np.ndarray, where: str) -> None:
    """Refuse an activation that cannot be run.

    Raises:
        BadInput: naming the first.
    """
    unknown = sorted(set(names.tolist()) - set(ACTIVATIONS))
    if unknown:
        raise BadInput(f"{where}: got {unknown[0]!r} for an activation, wanted one of {', '.join(ACTIVATIONS)}")


@torch.no_grad()
def score_networks(
    architecture: Architecture,
    weights: Float32[Tensor, "networks weights"],
    activations: np.ndarray,
    images: PreparedImages,
) -> Outcome:
    """Run networks on validation and test images, those of one activation together.

    Raises:
        BadInput: an activation is none that can be run.
    """
    check_activations(activations, "networks to score")
    num, device = len(weights), weights.device
    val_accuracy, test_accuracy, test_loss = (np.zeros(num, np.float32) for _ in range(3))
    answers = np.zeros((num, len(images.test)), np.int64)
    for activation in ACTIVATIONS:
        rows = np.flatnonzero(activations == activation)
        if not len(rows):
            continue
        part = weights[torch.from_numpy(rows).to(device)]
        logits = compute_logits(architecture, part, activation, images.val)
        val_accuracy[rows] = (choose_classes(logits) == images.val_labels).float().mean(1).cpu().numpy()
        logits = compute_logits(architecture, part, activation, images.test)
        labels = images.test_labels.expand(len(rows), -1)
        test_loss[rows] = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1).cpu().numpy()
        given = choose_classes(logits)
        test_accuracy[rows] = (given == labels).float().mean(1).cpu().numpy()
        answers[rows] = given.cpu().numpy()
    return Outcome(val_accuracy, test_accuracy, test_loss, answers, answers != images.test_labels.cpu().numpy())


def choose_classes(logits: Float32[Tensor, "networks images classes"]) -> Int64[Tensor, "networks images"]:
    """Return the most likely class of each image; -1, a class that no image has, where an output is not finite."""
    return torch.where(logits.isfinite().all(2), logits.argmax(2), -1)
