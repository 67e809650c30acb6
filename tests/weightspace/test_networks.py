import pytest
import torch
from torch.nn import functional as F

from weightspace.config import BadInput
from weightspace.networks import (
    ACTIVATIONS,
    build_architecture,
    build_cnn_l,
    build_cnn_s,
    build_layout,
    build_mlp,
    build_small_cnn,
    max_pool,
    run_networks,
    trace_shapes,
)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_many_networks_compute_what_torch_computes_for_one(activation):
    architecture = build_cnn_s()
    layout = build_layout(architecture)
    weights, images = draw(3, layout.num_weights) * 0.2, draw(5, 1, 28, 28)
    logits = run_networks(architecture, layout.split(weights), images, activation)
    act = ACTIVATIONS[activation]
    for member in range(3):
        one = layout.split(weights[member])
        x = act(F.max_pool2d(F.conv2d(images, one["conv1.weight"], one["conv1.bias"]), 2))
        x = act(F.max_pool2d(F.conv2d(x, one["conv2.weight"], one["conv2.bias"]), 2))
        x = act(F.conv2d(x, one["conv3.weight"], one["conv3.bias"])).flatten(1)
        x = act(F.linear(x, one["fc1.weight"], one["fc1.bias"]))
        x = F.linear(x, one["fc2.weight"], one["fc2.bias"])
        torch.testing.assert_close(logits[member], x, atol=1e-5, rtol=1e-5)


def test_members_may_see_images_of_their_own():
    architecture = build_cnn_l()
    layout = build_layout(architecture)
    tensors, images = layout.split(draw(2, layout.num_weights) * 0.1), draw(2, 3, 3, 32, 32)
    together = run_networks(architecture, tensors, images, "relu")
    for member in range(2):
        alone = run_networks(architecture, tensors, images[member], "relu")[member]
        torch.testing.assert_close(together[member], alone, atol=1e-5, rtol=1e-5)


def test_mask_of_dropout_silences_a_unit():
    architecture = build_cnn_s()
    layout = build_layout(architecture)
    tensors = layout.split(draw(1, layout.num_weights) * 0.2)
    images, mask = draw(4, 1, 28, 28), torch.ones(1, 4, 20)
    mask[..., 3] = 0.0
    masked = run_networks(architecture, tensors, images, "tanh", {3: mask})
    without = {name: tensor.clone() for name, tensor in tensors.items()}
    without["fc2.weight"][..., 3] = 0.0
    torch.testing.assert_close(masked, run_networks(architecture, without, images, "tanh"), atol=1e-6, rtol=1e-6)


def test_pooling_drops_an_odd_row_as_torch_does():
    images = draw(2, 3, 7, 5)
    assert torch.equal(max_pool(images), F.max_pool2d(images, 2))


def test_shapes_are_those_that_the_network_computes():
    assert trace_shapes(build_cnn_s()) == [(1, 28, 28), (8, 12, 12), (6, 4, 4), (4, 3, 3), (20, 1, 1), (10, 1, 1)]


def test_unknown_architecture_is_named():
    with pytest.raises(BadInput, match=r"'cnn_x', wanted one of cnn_s, cnn_l"):
        build_architecture("cnn_x", (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("architecture", "num_weights"),
    [
        (build_small_cnn(), 4970),
        (build_mlp((1, 4, 4), (5,), 4, bias=False), 100),
        (build_mlp((1, 28, 28), (32, 16), 10), 784 * 32 + 32 + 32 * 16 + 16 + 16 * 10 + 10),
    ],
)
def test_networks_have_the_published_number_of_weights(architecture, num_weights):
    assert build_layout(architecture).num_weights == num_weights


def test_small_cnn_computes_what_torch_computes():
    architecture = build_architecture("small_cnn", (1, 32, 32), 10)
    layout = build_layout(architecture)
    weights, images = draw(2, layout.num_weights) * 0.2, draw(5, 1, 32, 32)
    logits = run_networks(architecture, layout.split(weights), images, "relu")
    for member in range(2):
        one, x = layout.split(weights[member]), images
        for layer in (1, 2, 3):
            x = F.relu(F.conv2d(x, one[f"conv{layer}.weight"], one[f"conv{layer}.bias"], stride=2))
        x = F.linear(x.mean((2, 3)), one["fc1.weight"], one["fc1.bias"])
        torch.testing.assert_close(logits[member], x, atol=1e-5, rtol=1e-5)


def test_a_network_without_biases_has_none():
    architecture = build_mlp((1, 4, 4), (5,), 4, bias=False)
    layout = build_layout(architecture)
    assert all(place.kind == "linear" for place in layout.places)
    tensors = layout.split(draw(3, layout.num_weights))
    logits = run_networks(architecture, tensors, torch.zeros(2, 1, 4, 4), "relu")
    assert torch.equal(logits, torch.zeros(3, 2, 4))


def test_what_a_block_does_not_have_is_not_in_its_json():
    assert set(build_cnn_s().model_dump(mode="json")["blocks"][0]) == {
        "kind", "features", "kernel", "pool", "activate", "dropout"
    }  # fmt: skip
    strided = build_small_cnn()
    assert type(strided).model_validate(strided.model_dump(mode="json")) == strided


def test_images_too_small_for_a_network_are_refused():
    with pytest.raises(BadInput, match="small_cnn leaves nothing of images of shape"):
        build_architecture("small_cnn", (1, 8, 8), 10)
