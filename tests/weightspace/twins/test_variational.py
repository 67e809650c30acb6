import numpy as np
import pytest
import torch

from tests.weightspace.twins.small_twins import LAYOUT, NETWORK, draw_start, make_config
from weightspace.networks import build_cnn_s, build_layout, build_mlp, build_small_cnn, run_networks
from weightspace.twins.config import Variational
from weightspace.twins.variational import (
    VariationalLearner,
    apply_layer,
    compute_divergence,
    compute_log_alpha,
    count_units,
    drop_noise,
    pair_layers,
    run_noisy,
)
from weightspace.zoo.training import Recipe

SEED = 3


def integrate_divergence(log_alpha):
    """Integrate the divergence of N(1, alpha) from the log-uniform prior, up to the constant that makes it end at 0."""
    alpha = np.exp(log_alpha)
    logs = np.linspace(-60, np.log(1 + 12 * np.sqrt(alpha)) + 1, 200_001)
    sizes = np.exp(logs)
    density = sum(np.exp(-((sign * sizes - 1) ** 2) / (2 * alpha)) for sign in (1, -1)) / np.sqrt(2 * np.pi * alpha)
    mean_log = np.trapezoid(logs * density * sizes, logs)
    return mean_log - 0.5 * log_alpha + (np.euler_gamma + np.log(2)) / 2


@pytest.mark.parametrize("log_alpha", [-8.0, -4.0, -2.0, 0.0, 1.0, 3.0, 6.0])
def test_divergence_is_that_of_numeric_integration(log_alpha):
    found = compute_divergence(torch.tensor(log_alpha, dtype=torch.float64)).item()
    # The approximation is off by 0.0085 at most, at log alpha -4: measured with the integral above.
    assert found == pytest.approx(integrate_divergence(log_alpha), abs=0.009)


def test_divergence_falls_with_alpha_to_zero():
    found = compute_divergence(torch.linspace(-20, 40, 200, dtype=torch.float64))
    assert (found.diff() <= 0).all()
    assert found[-1].abs() < 1e-9


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (NETWORK, (1, 8, 8)),
        (build_cnn_s(), (1, 28, 28)),
        (build_small_cnn(), (1, 28, 28)),
        (build_mlp((1, 4, 4), [5], 4, bias=False), (1, 4, 4)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_without_noise_a_twin_is_the_network(network, shape):
    generator = torch.Generator().manual_seed(SEED)
    weights = 0.3 * torch.randn(3, build_layout(network).num_weights, generator=generator)
    images = torch.randn(3, 5, *shape, generator=generator)
    noise = torch.zeros(3, 5, count_units(network))
    found = run_noisy(network, weights, torch.full_like(weights, -3.0), images, "tanh", noise)
    wanted = run_networks(network, build_layout(network).split(weights), images, "tanh")
    torch.testing.assert_close(found, wanted)


def test_noise_on_a_layer_has_mean_and_variance_of_noise_on_its_weights():
    layer = build_mlp((1, 2, 3), [], 2)
    generator = torch.Generator().manual_seed(SEED)
    weights = torch.randn(1, 14, generator=generator)
    log_sigma2 = torch.randn(1, 14, generator=generator) - 1
    image = torch.randn(1, 1, 1, 2, 3, generator=generator)
    count = 20_000
    noise = torch.randn(1, count, 2, generator=generator)
    drawn = run_noisy(layer, weights, log_sigma2, image.expand(1, count, 1, 2, 3), "tanh", noise)[0]
    sampled = weights + (log_sigma2 / 2).exp() * torch.randn(count, 14, generator=generator)
    by_weights = run_networks(layer, build_layout(layer).split(sampled), image.expand(count, 1, 1, 2, 3), "tanh")[:, 0]
    (weight, bias), (spread, bias_spread) = (next(pair_layers(layer, v)) for v in (weights, log_sigma2.exp()))
    assert bias is not None
    assert bias_spread is not None
    mean, variance = weight[0] @ image.flatten() + bias[0], spread[0] @ image.flatten().square() + bias_spread[0]
    for values in (drawn, by_weights):  # within five standard errors
        error = (variance / count).sqrt()
        assert ((values.mean(0) - mean).abs() < 5 * error).all()
        assert ((values.var(0) / variance - 1).abs() < 5 * (2 / count) ** 0.5).all()


def test_variance_of_a_convolution_is_that_of_noise_on_its_weights():
    block = NETWORK.blocks[0]
    generator = torch.Generator().manual_seed(SEED)
    count = 4000
    x = torch.randn(1, 1, 5, 5, generator=generator)
    spread = torch.rand(1, 3, 1, 3, 3, generator=generator)
    kernels = spread.sqrt() * torch.randn(count, 3, 1, 3, 3, generator=generator)
    sampled = apply_layer(block, x.expand(1, count, 5, 5), (kernels, None)).reshape(count, 3, 3, 3)
    variance = apply_layer(block, x.square(), (spread, None))[0]
    assert ((sampled.var(0) / variance - 1).abs() < 6 * (2 / count) ** 0.5).all()


def test_numbers_that_are_mostly_noise_become_zero_and_a_diverged_member_stays_so():
    weights = torch.tensor([[1.0, 0.1, -0.1, 0.0], [torch.nan, 1.0, 1.0, 1.0]])
    log_sigma2 = torch.full_like(weights, -1.0)
    found = drop_noise(weights, log_sigma2, 3.0)
    assert found[0].tolist() == [1.0, 0.0, 0.0, 0.0]  # log alpha -1, 3.6, 3.6 and about 68
    assert torch.isnan(found[1, 0])
    assert compute_log_alpha(weights, log_sigma2)[0, 1].item() == pytest.approx(-1 - 2 * np.log(0.1))


def make_learner(**method):
    config = make_config(**method).method
    assert isinstance(config, Variational)
    nothing = np.zeros(2)
    recipe = Recipe("tanh", "adam", 10, np.arange(2), nothing + 1e-3, nothing, nothing, np.array([50, 50]))
    return VariationalLearner(NETWORK, recipe, config)


def test_penalty_is_of_one_image_and_rises_over_the_warmup():
    assert make_learner(penalty=2.0).scale_penalty(0) == pytest.approx([2 / 50] * 2)
    learner = make_learner(warmup_epochs=2)  # of five steps each
    steps = (0, 4, 5, 9, 10, 30)
    assert [learner.scale_penalty(step)[0] * 50 for step in steps] == pytest.approx([0, 0, 0.5, 0.5, 1, 1])


def test_noise_is_of_the_members_own_seed_and_step():
    learner = make_learner()
    one, other = learner.draw_noise(4, 7), learner.draw_noise(4, 8)
    assert not torch.equal(one, other)
    assert torch.equal(one, learner.draw_noise(4, 7))
    assert not torch.equal(one[0], one[1])


def test_gradient_is_that_of_finite_differences():
    learner, generator = make_learner(penalty=5.0), torch.Generator().manual_seed(SEED)
    vector = torch.cat([draw_start(2), torch.full((2, LAYOUT.num_weights), -4.0)], dim=1)
    images, labels = torch.randn(2, 6, 1, 8, 8, generator=generator), torch.arange(12).reshape(2, 6) % 3
    gradient = learner.differentiate(vector, images, labels, 3).gradient
    noise, scale = learner.draw_noise(6, 3).double(), torch.from_numpy(learner.scale_penalty(3))

    def measure(moved):
        means, log_sigma2 = moved.double().chunk(2, dim=1)
        logits = run_noisy(NETWORK, means, log_sigma2, images.double(), "tanh", noise)
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        return loss + scale * compute_divergence(compute_log_alpha(means, log_sigma2)).sum(1)

    for place in (0, 40, LAYOUT.num_weights + 1, -1):
        shift = torch.zeros_like(vector, dtype=torch.float64)
        shift[:, place] = 1e-5
        wanted = (measure(vector.double() + shift) - measure(vector.double() - shift)) / 2e-5
        torch.testing.assert_close(gradient[:, place].double(), wanted, rtol=2e-3, atol=1e-5)
