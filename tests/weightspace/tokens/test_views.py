import pytest
import torch

from tests.weightspace.residual_networks import WIRING, load_vector, make_network, read_shapes, read_vector
from weightspace.imports.structure import find_structure
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.tokens.views import ERASED, erase_blocks, make_view


def test_permuted_view_computes_the_same_function(architecture, generator):
    layout = build_layout(architecture)
    weights = torch.randn(4, layout.num_weights, generator=generator) * 0.1
    view = make_view(layout, weights, generator, permute=True, noise=0.0)
    images = torch.randn(3, *architecture.image_shape, generator=generator)
    before = run_networks(architecture, layout.split(weights), images, "gelu")
    after = run_networks(architecture, layout.split(view), images, "gelu")
    assert (view != weights).any(1).all()
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_each_row_has_an_order_of_its_own(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(1, layout.num_weights, generator=generator).expand(10, -1)
    view = make_view(layout, weights, generator, permute=True, noise=0.0)
    assert len(view.unique(dim=0)) == 10


def test_weights_given_stay_as_they_are(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(3, layout.num_weights, generator=generator)
    kept = weights.clone()
    make_view(layout, weights, generator, permute=True, noise=0.1, erase=1.0)
    assert torch.equal(weights, kept)


def test_view_without_any_change_is_the_weights(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(3, layout.num_weights, generator=generator)
    assert torch.equal(make_view(layout, weights, generator, permute=False, noise=0.0), weights)


def test_noise_grows_with_the_weight(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.linspace(-3, 3, layout.num_weights).expand(50, -1)
    factor = make_view(layout, weights, generator, permute=False, noise=0.1) / weights
    # 50 x 2,464 draws of N(1, 0.1): the standard error of mean and deviation is below 0.0003.
    assert abs(factor.mean() - 1) < 0.002
    assert abs(factor.std() - 0.1) < 0.002


def test_zero_weights_stay_zero_under_noise(generator):
    layout = build_layout(build_cnn_s())
    view = make_view(layout, torch.zeros(2, layout.num_weights), generator, permute=True, noise=0.5)
    assert (view == 0).all()


def test_erased_block_is_contiguous_and_within_bounds(generator):
    erased = erase_blocks(torch.ones(300, 1000), generator, 1.0) == 0
    edges = erased.int().diff(dim=1).abs().sum(1)
    parts = erased.float().mean(1)
    assert (edges <= 2).all()
    assert parts.min() >= ERASED[0] - 0.001
    assert parts.max() <= ERASED[1]


def test_erasing_strikes_as_often_as_asked(generator):
    erased = (erase_blocks(torch.ones(2000, 100), generator, 0.5) == 0).any(1)
    # 2,000 tosses: standard deviation 0.011.
    assert abs(erased.float().mean() - 0.5) < 0.06


def test_same_seed_makes_the_same_view():
    layout = build_layout(build_cnn_s())
    weights = torch.ones(3, layout.num_weights).cumsum(1)
    views = [
        make_view(layout, weights, torch.Generator().manual_seed(7), permute=True, noise=0.1, erase=0.5)
        for _ in range(2)
    ]
    assert torch.equal(*views)


@pytest.mark.parametrize("kind", list(WIRING))
def test_permuted_view_of_norms_and_shortcuts_computes_the_same_function(kind, generator):
    network = make_network(kind)
    structure = find_structure("x", read_shapes(network), WIRING[kind])
    weights = read_vector(structure, network).unsqueeze(0)
    view = make_view(structure.layout, weights, generator, permute=True, noise=0.0)
    assert not torch.equal(view, weights)
    images = torch.randn(3, 3, 8, 8, generator=generator)
    wanted = network(images)
    load_vector(structure, network, view[0])
    torch.testing.assert_close(network(images), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", list(WIRING))
@pytest.mark.parametrize("permute", [False, True])
def test_noise_and_gaps_leave_running_statistics_alone(kind, permute, generator):
    network = make_network(kind)
    structure = find_structure("x", read_shapes(network), WIRING[kind])
    layout, weights = structure.layout, read_vector(structure, network).expand(20, -1)
    trained = layout.mask_trained(weights.device)
    view = make_view(layout, weights, generator, permute, noise=2.0, erase=1.0)
    assert torch.equal(view[:, ~trained].sort(1).values, weights[:, ~trained].sort(1).values)
    for place in layout.places:
        part = view[:, place.offset : place.stop]
        if place.name.endswith("running_var"):
            assert (part > 0).all()
        elif place.trained:
            assert (part != weights[:, place.offset : place.stop]).any()


def test_noise_of_other_numbers_does_not_depend_on_running_statistics(generator):
    network = make_network("vgg")
    structure = find_structure("x", read_shapes(network), "chain")
    weights = read_vector(structure, network).unsqueeze(0)
    trained = structure.layout.mask_trained(weights.device)
    other = torch.where(trained, weights, 5.0)
    views = [
        make_view(structure.layout, one, torch.Generator().manual_seed(7), permute=False, noise=0.1, erase=1.0)
        for one in (weights, other)
    ]
    assert torch.equal(views[0][:, trained], views[1][:, trained])
