import numpy as np
import pytest
import torch

from tests.weightspace.zoo.test_fused_cpu import ACTIVATIONS, make_images, start
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout, build_mlp, build_small_cnn, run_networks
from weightspace.zoo.evaluate import compute_logits
from weightspace.zoo.fused_predict import IMAGES_AT_ONCE, predict_logits_fused

NETWORKS = [
    build_cnn_s(),
    build_cnn_s(channels=3),
    build_cnn_l(),
    build_small_cnn(),
    build_mlp((1, 4, 4), (5,), 4, bias=False),
]


def run_by_torch(architecture, weights, activation, images):
    return run_networks(architecture, build_layout(architecture).split(weights), images, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda network: f"{network.name}_{network.channels}")
def test_logits_are_those_of_torch(architecture, activation):
    weights, images = start(architecture, 11), make_images(architecture).train
    found = predict_logits_fused(architecture, weights, activation, images)
    exact = run_by_torch(architecture, weights.double(), activation, images.double())
    plain = run_by_torch(architecture, weights, activation, images)
    assert found.shape == (11, len(images), architecture.num_classes)
    assert (found - exact).abs().max() <= max(3 * (plain - exact).abs().max(), 1e-6 * exact.abs().max())


def test_a_network_alone_says_the_same_as_among_others_and_however_many_images_there_are():
    architecture = build_cnn_s()
    weights, images = start(architecture, 20), torch.randn(2 * IMAGES_AT_ONCE + 3, *architecture.image_shape)
    together = compute_logits(architecture, weights, "tanh", images)
    assert torch.equal(compute_logits(architecture, weights[13:14], "tanh", images), together[13:14])
    assert torch.equal(compute_logits(architecture, weights, "tanh", images[-5:]), together[:, -5:])


def test_a_network_with_a_weight_that_is_not_finite_says_nothing():
    architecture = build_cnn_s()
    weights = start(architecture, 3)
    weights[1, 7] = torch.inf
    logits = compute_logits(architecture, weights, "tanh", make_images(architecture).train)
    np.testing.assert_array_equal(logits.isfinite().all(2).all(1), [True, False, True])
    assert logits[1].isnan().all()
