"""Sample latents around anchors, and weights without a model.

Every sampler draws from one generator and never starts it again. The published code restarts its generator for each
latent number, so that what is called independent there is one anchor plus one number; `sample_released` does that on
purpose.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from weightspace.layout import Layout
from weightspace.samples.anchors import Anchors, assign_groups, draw_anchors
from weightspace.samples.config import Bandwidth, KdeIndependent, KdeJoint, KdeReleased

KdeSampler = KdeJoint | KdeIndependent | KdeReleased


def sample_latents(
    sampler: KdeSampler, anchors: Anchors, num: int, generator: np.random.Generator
) -> tuple[Float32[np.ndarray, "num tokens d_latent"], Int64[np.ndarray, " num"]]:
    """Draw latents from a Gaussian kernel density estimate over the anchors of one activation for each sample.

    Returns:
        The latents, and for each the number of its anchor; for independent ones an anchor of the same activation.
    """
    match sampler:
        case KdeJoint():
            picks = draw_anchors(anchors, num, generator)
            centers = anchors.latents[picks]
        case KdeIndependent():
            groups = assign_groups(anchors, num, generator)
            picks = np.array([group[0] for group in groups])
            centers = np.stack([mix_latents(anchors, group, generator) for group in groups])
        case KdeReleased():
            return sample_released(sampler.bandwidth, anchors, num, generator)
    noise = generator.standard_normal(centers.shape) * measure_scale(sampler.bandwidth, anchors)
    return (centers + noise).astype(np.float32), picks


def mix_latents(
    anchors: Anchors, group: Int64[np.ndarray, " group"], generator: np.random.Generator
) -> Float32[np.ndarray, "tokens d_latent"]:
    """Take each latent number from an anchor of its own."""
    picks = generator.choice(group, size=anchors.latents.shape[1:])
    return np.take_along_axis(anchors.latents, picks[None], axis=0)[0]


def sample_released(
    bandwidth: Bandwidth, anchors: Anchors, num: int, generator: np.random.Generator
) -> tuple[Float32[np.ndarray, "num tokens d_latent"], Int64[np.ndarray, " num"]]:
    """Add one random number to all latents of one anchor.

    Source: released code of the 2022 hyper-representations (arXiv 2209.14733), which SANE's copies.
    """
    picks = draw_anchors(anchors, num, generator)
    scale = np.sqrt(np.mean(measure_scale(bandwidth, anchors) ** 2))
    offset = scale * generator.standard_normal((num, 1, 1))
    return (anchors.latents[picks] + offset).astype(np.float32), picks


def measure_scale(bandwidth: Bandwidth, anchors: Anchors) -> Float64[np.ndarray, "tokens d_latent"]:
    """Turn a bandwidth into the standard deviation of the noise for each latent number.

    Deviations count from the mean of the anchors of the same activation, those of all activations together: a group
    of one anchor has none of its own.
    """
    latents = anchors.latents.astype(np.float64)
    if bandwidth.kind == "absolute":
        return np.full(latents.shape[1:], bandwidth.value)
    for group in anchors.groups.values():
        latents[group] -= latents[group].mean(0)
    return bandwidth.value * np.sqrt((latents**2).mean(0))


def perturb_weights(
    layout: Layout,
    weights: Float32[np.ndarray, "num weights"],
    noise: float,
    generator: np.random.Generator,
) -> Float32[np.ndarray, "num weights"]:
    """Add Gaussian noise that is a part of the standard deviation of each network's layers."""
    out = weights.copy()
    for layer in range(layout.num_layers):
        place = layout.layer_slice(layer)
        part = weights[:, place]
        scale = noise * part.std(axis=1, keepdims=True)
        out[:, place] += (scale * generator.standard_normal(part.shape)).astype(np.float32)
    return out
