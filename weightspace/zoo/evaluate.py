"""Measure what trained members do on images."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.networks import Activation, Architecture, build_layout, run_networks
from weightspace.zoo.kinds import ModuleNetwork, Network, build_module, lay_out_network
from weightspace.zoo.modules import run_module

CHUNK = 8192
"""Image-members computed at once: about 150 MB of activations for CNN-s."""
MODULE_CHUNK = 256
"""Images that a module sees at once, one member after the other."""


def iterate_logits(
    architecture: Network,
    weights: Float32[Tensor, "members weights"],
    activation: Activation | None,
    images: Float32[Tensor, "images channels height width"],
) -> Iterator[tuple[slice, Float32[Tensor, "members batch classes"]]]:
    """Yield slices of the images and the members' logits for them."""
    if not isinstance(architecture, Architecture):
        yield from iterate_modules(architecture, weights, activation, images)
        return
    assert activation is not None
    tensors = build_layout(architecture).split(weights)
    size = max(1, CHUNK // len(weights))
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield part, run_networks(architecture, tensors, images[part], activation)


def iterate_modules(
    network: ModuleNetwork,
    weights: Float32[Tensor, "members weights"],
    activation: Activation | None,
    images: Float32[Tensor, "images channels height width"],
) -> Iterator[tuple[slice, Float32[Tensor, "members batch classes"]]]:
    """Yield as `iterate_logits` does, with the statistics that norms have gathered and no dropout."""
    module, layout = build_module(network, activation).to(weights.device).eval(), lay_out_network(network)
    for start in range(0, len(images), MODULE_CHUNK):
        part = slice(start, start + MODULE_CHUNK)
        yield part, torch.stack([run_module(module, layout, row, images[part]) for row in weights])


@torch.no_grad()
def evaluate_members(
    architecture: Network,
    weights: Float32[Tensor, "members weights"],
    activation: Activation | None,
    images: Float32[Tensor, "images channels height width"],
    labels: Int64[Tensor, " images"] | Int64[Tensor, "members images"],
    uses: Bool[Tensor, "members images"] | None = None,
) -> tuple[Float32[Tensor, " members"], Float32[Tensor, " members"]]:
    """Measure mean cross-entropy and accuracy, without dropout.

    Args:
        labels: of all members, or of each.
        uses: which images count for which member; None: all.

    Returns:
        Loss and accuracy; a member with non-finite logits has a non-finite loss and the accuracy not-a-number.
    """
    loss = weights.new_zeros(len(weights), dtype=torch.float64)
    right = torch.zeros_like(loss)
    for part, logits in iterate_logits(architecture, weights, activation, images):
        target = labels[..., part].expand(len(weights), -1)
        image_loss = F.cross_entropy(logits.transpose(1, 2), target, reduction="none").double()
        counts = 1.0 if uses is None else uses[:, part]
        loss += (image_loss * counts).sum(1)
        right += ((logits.argmax(-1) == target) * counts).sum(1)
    return average_answers(loss, right, len(images) if uses is None else uses.sum(1))


def average_answers(
    loss: Float64[Tensor, " members"], right: Float64[Tensor, " members"], number: int | Int64[Tensor, " members"]
) -> tuple[Float32[Tensor, " members"], Float32[Tensor, " members"]]:
    """Turn sums over images into mean loss and accuracy, which a loss that is not finite makes not-a-number."""
    return (loss / number).float(), (right / number + 0 * loss).float()


@torch.no_grad()
def compute_logits(
    architecture: Architecture,
    weights: Float32[Tensor, "members weights"],
    activation: Activation,
    images: Float32[Tensor, "images channels height width"],
) -> Float32[Tensor, "members images classes"]:
    """Compute the members' logits for images, without dropout: on a CPU with the fused engine's kernels, else torch's.

    A member with weights that are not finite has logits that are not-a-number: an activation may hide them.
    """
    if weights.device.type == "cpu":
        from weightspace.zoo.fused_predict import predict_logits_fused  # Numba takes a second to import

        logits = predict_logits_fused(architecture, weights, activation, images)
    else:
        logits = torch.cat([part for _, part in iterate_logits(architecture, weights, activation, images)], dim=1)
    logits[~weights.isfinite().all(1)] = torch.nan
    return logits
