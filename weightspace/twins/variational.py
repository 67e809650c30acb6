"""Differentiate members with a variance beside each number: variational dropout."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from weightspace.networks import ACTIVATIONS, Activation, Architecture, Block, build_layout, max_pool, trace_shapes
from weightspace.twins.config import Variational
from weightspace.zoo.learners import Lesson
from weightspace.zoo.training import Recipe, seed_generator

K1, K2, K3 = 0.63576, 1.87320, 1.48695
"""Source: Molchanov et al. 2017 (arXiv 1701.05369), eq. 14."""
SMALLEST = 1e-15
"""Added to a weight's size before its logarithm is taken."""
LEAST_VARIANCE = 1e-12
"""Added to the variance of an activation, whose root could not be differentiated at 0."""
STREAM_NOISE = 100
"""Apart from the streams of `weightspace.zoo.training`."""
Layer = tuple[Tensor, Tensor | None]
"""Weight and bias of one block, `[members, *shape]` each."""


def compute_log_alpha(
    weights: Float[Tensor, "*members weights"], log_sigma2: Float[Tensor, "*members weights"]
) -> Float[Tensor, "*members weights"]:
    """Return the logarithm of each number's variance over its square.

    Source: Molchanov et al. 2017, eq. 11.
    """
    return log_sigma2 - 2 * (weights.abs() + SMALLEST).log()


def compute_divergence(log_alpha: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Approximate the divergence of each number's posterior from the log-uniform prior, near 0 for pure noise.

    Source: Molchanov et al. 2017, eq. 14, with the constant that makes it 0 for an infinite alpha.
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * F.softplus(-log_alpha)


def drop_noise(
    weights: Float[Tensor, "members weights"], log_sigma2: Float[Tensor, "members weights"], threshold: float
) -> Float[Tensor, "members weights"]:
    """Set numbers with a log alpha above the threshold to 0; those of a diverged member stay not-a-number."""
    return weights * (compute_log_alpha(weights, log_sigma2) <= threshold)


def apply_layer(block: Block, x: Tensor, layer: Layer) -> Tensor:
    """Apply the linear part of a block to what enters it, `[batch, members * channels, ...]` or flat."""
    weight, bias = layer
    members, batch = weight.shape[0], x.shape[0]
    if block.kind == "conv":
        flat = None if bias is None else bias.flatten()
        return F.conv2d(x, weight.flatten(0, 1), flat, stride=block.stride, groups=members)
    per_member = x.reshape(batch, members, -1).transpose(0, 1)
    shift = weight.new_zeros(members, 1, 1) if bias is None else bias.unsqueeze(1)
    return torch.baddbmm(shift, per_member, weight.transpose(1, 2)).transpose(0, 1)


def pair_layers(
    architecture: Architecture, vector: Float[Tensor, "members weights"]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield weight and bias of each block."""
    parts = iter(build_layout(architecture).split(vector).values())
    for block in architecture.blocks:
        yield next(parts), next(parts) if block.bias else None


def run_noisy(
    architecture: Architecture,
    weights: Float[Tensor, "members weights"],
    log_sigma2: Float[Tensor, "members weights"],
    images: Float[Tensor, "members batch channels height width"],
    activation: Activation,
    noise: Float[Tensor, "members batch units"],
) -> Float[Tensor, "members batch classes"]:
    """Compute logits with noise on what each unit receives: its mean and variance under noise on the weights.

    The same as `networks.run_networks` otherwise.

    Args:
        noise: standard normal, for each unit of each block before pooling, channels first; see `count_units`.

    Source: local reparameterisation, Kingma et al. 2015 (arXiv 1506.02557).
    """
    members, batch = images.shape[:2]
    x, first = images.transpose(0, 1).flatten(1, 2), 0
    layers = zip(pair_layers(architecture, weights), pair_layers(architecture, log_sigma2.exp()), strict=True)
    for block, (means, variances) in zip(architecture.blocks, layers, strict=True):
        x = x.reshape(batch, members, means[0].shape[2], -1).mean(-1) if block.average else x
        mean, variance = apply_layer(block, x, means), apply_layer(block, x.square(), variances)
        stop = first + mean[0].numel() // members
        x = mean + (variance + LEAST_VARIANCE).sqrt() * noise[..., first:stop].transpose(0, 1).reshape(mean.shape)
        first = stop
        x = max_pool(x) if block.pool else x
        x = ACTIVATIONS[activation](x) if block.activate else x
    return x.reshape(batch, members, -1).transpose(0, 1)


def count_units(architecture: Architecture) -> int:
    """Count the units of all blocks before pooling, each position of a convolution by itself."""
    total = 0
    for block, (_, height, width) in zip(architecture.blocks, trace_shapes(architecture)[:-1], strict=True):
        positions = 1
        if block.kind == "conv":
            positions = ((height - block.kernel) // block.stride + 1) * ((width - block.kernel) // block.stride + 1)
        total += block.features * positions
    return total


class VariationalLearner:
    """Differentiates members whose vectors hold all weights, then the logarithms of their variances."""

    trained = None

    def __init__(self, architecture: Architecture, recipe: Recipe, method: Variational) -> None:
        self.architecture, self.recipe, self.method = architecture, recipe, method
        self.units = count_units(architecture)

    def differentiate(
        self,
        weights: Float32[Tensor, "members weights"],
        images: Float32[Tensor, "members batch channels height width"],
        labels: Int64[Tensor, "members batch"],
        step: int,
    ) -> Lesson:
        """Differentiate each member's mean loss on its own batch, and its divergence over its training images."""
        assert self.recipe.activation is not None
        leaf = weights.detach().requires_grad_()
        means, log_sigma2 = leaf.chunk(2, dim=1)
        noise = self.draw_noise(images.shape[1], step).to(weights.device)
        logits = run_noisy(self.architecture, means, log_sigma2, images, self.recipe.activation, noise)
        loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        divergence = compute_divergence(compute_log_alpha(means, log_sigma2)).sum(1)
        scale = torch.from_numpy(self.scale_penalty(step)).to(weights)
        gradient = torch.autograd.grad((loss + scale * divergence).sum(), leaf)[0]
        return Lesson(gradient, weights, loss.detach(), (logits.argmax(2) == labels).sum(1))

    def scale_penalty(self, step: int) -> Float[np.ndarray, " members"]:
        """Return what the divergence is multiplied by at a step, counted from 0; the same in all steps of an epoch."""
        num_train, rise = np.asarray(self.recipe.num_train), self.method.warmup_epochs
        epoch = step // -(-num_train // np.asarray(self.recipe.batch_size))
        return self.method.penalty * np.minimum(1.0, epoch / rise if rise else 1.0) / num_train

    def draw_noise(self, batch: int, step: int) -> Float32[Tensor, "members batch units"]:
        """Draw each member's noise of one step from its own seed."""
        generators = (seed_generator(seed, STREAM_NOISE, step) for seed in self.recipe.seed.tolist())
        drawn = [one.standard_normal((batch, self.units), np.float32) for one in generators]
        return torch.from_numpy(np.stack(drawn))
