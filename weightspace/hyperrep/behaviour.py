"""Run reconstructed networks on images beside their originals: the behavioural loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.config import BadInput
from weightspace.hyperrep.batches import ACTIVATION_NAMES, Pool, Source, seed_stream
from weightspace.hyperrep.config import (
    CrossEntropyBehaviour,
    DistillationBehaviour,
    HyperrepConfig,
    NoBehaviour,
    SoftmaxBehaviour,
)
from weightspace.images.image_set import ImageSet, prepare_images
from weightspace.networks import Architecture, read_chain, run_networks
from weightspace.tokens.tokenizer import Tokenizer
from weightspace.weights.statistics import Statistics

STREAM_IMAGES, STREAM_VAL_IMAGES = 4, 5
"""Beside the streams of `batches`."""
Rules = SoftmaxBehaviour | CrossEntropyBehaviour | DistillationBehaviour


@dataclass(frozen=True)
class Behaviour:
    """What the networks of a batch do is measured with."""

    rules: Rules
    seed: int
    architecture: Architecture
    tokenizer: Tokenizer
    statistics: Statistics
    images: Float32[Tensor, "images channels height width"]
    """All training images, normalised as the networks saw them."""


def build_behaviour(
    data: Source,
    config: HyperrepConfig,
    tokenizer: Tokenizer,
    images: ImageSet | None,
    pools: tuple[Pool, ...],
    device: torch.device,
) -> Behaviour | None:
    """Prepare the training images of a zoo's image set; None where the loss runs no networks.

    Raises:
        BadInput: the networks cannot be run, or not on these images.
    """
    rules = config.loss.behaviour
    if isinstance(rules, NoBehaviour):
        return None
    assert images is not None, "the loss runs networks on images"
    architecture = read_chain(data.about.get("architecture"))
    if architecture is None or any((pool.activation < 0).any() for pool in pools):
        raise BadInput(
            f"weights {config.weights}: no architecture or activation that can be run, as loss.behaviour does"
        )
    if images.shape != architecture.image_shape:
        raise BadInput(
            f"images {config.images}: shape {images.shape}, but {architecture.name} takes {architecture.image_shape}"
        )
    statistics = Statistics(data.statistics.mean.to(device), data.statistics.std.to(device))
    train = prepare_images(images, device).train
    return Behaviour(rules, config.training.seed, architecture, tokenizer, statistics, train)


def draw_images(behaviour: Behaviour, step: int | None) -> Float[Tensor, "batch channels height width"]:
    """Draw the images of a step, which depend on the seed and the step alone; None draws those of every validation."""
    stream = (STREAM_VAL_IMAGES,) if step is None else (STREAM_IMAGES, step)
    order = torch.randperm(len(behaviour.images), generator=seed_stream(behaviour.seed, *stream))
    return behaviour.images[order[: behaviour.rules.num_images].to(behaviour.images.device)]


def compare_outputs(
    logits: Float[Tensor, "networks images classes"], wanted: Float[Tensor, "networks images classes"], rules: Rules
) -> Float[Tensor, " networks"]:
    """Return how far each network's outputs are from those wanted."""
    match rules:
        case SoftmaxBehaviour():
            return (logits.softmax(-1) - wanted.softmax(-1)).square().mean((1, 2))
        case CrossEntropyBehaviour():
            return F.cross_entropy(logits.transpose(1, 2), wanted.argmax(-1), reduction="none").mean(1)
        case DistillationBehaviour(temperature=temperature):
            found, aim = ((part / temperature).log_softmax(-1) for part in (logits, wanted))
            return temperature**2 * F.kl_div(found, aim, reduction="none", log_target=True).sum(-1).mean(1)


def measure_behaviour(
    behaviour: Behaviour,
    outputs: Float[Tensor, "views tokens d_token"],
    targets: Float[Tensor, "views tokens d_token"],
    activation: Int64[Tensor, " networks"],
    step: int | None,
) -> Float[Tensor, ""]:
    """Return the mean over reconstructed networks of how far their outputs are from the originals'.

    First views only; one whose outputs are not finite is left out.

    Args:
        activation: of each first view, by its place in `ACTIVATION_NAMES`.
        step: decides the images; None: those of every validation.

    Source: Structure Is Not Enough (arXiv 2503.17138), L_B.
    """
    num = min(behaviour.rules.num_networks, len(activation))
    images, layout = draw_images(behaviour, step), behaviour.tokenizer.layout
    weights, originals = (
        behaviour.statistics.restore(layout, behaviour.tokenizer.detokenize(tokens[:num]))
        for tokens in (outputs, targets)
    )
    if weights.requires_grad:
        # A network that is left out still sends 0 times infinity back.
        weights.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))
    parts: list[Tensor] = []
    for code in activation[:num].unique().tolist():
        rows, name = (activation[:num] == code).nonzero().flatten(), ACTIVATION_NAMES[code]
        with torch.no_grad():
            wanted = run_networks(behaviour.architecture, layout.split(originals[rows]), images, name)
        logits = run_networks(behaviour.architecture, layout.split(weights[rows]), images, name)
        parts.append(compare_outputs(logits, wanted, behaviour.rules))
    losses = torch.cat(parts)
    finite = losses.isfinite()
    return losses.where(finite, 0).sum() / finite.sum().clamp_min(1)
