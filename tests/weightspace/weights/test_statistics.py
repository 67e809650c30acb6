import pytest
import torch

from tests.weightspace.residual_networks import make_network, read_shapes, read_vector
from weightspace.imports.structure import find_structure
from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_s, build_layout
from weightspace.weights.statistics import (
    Statistics,
    group_places,
    join_moments,
    measure_moments,
    measure_statistics,
    pool_moments,
)

KINDS = ["tensor", "layer", "robust", "global"]
TWO_LAYERS = Layout(
    places=(
        Place(name="a.weight", kind="linear", layer=0, shape=(2, 2), offset=0, axes=(None, None)),
        Place(name="a.bias", kind="bias", layer=0, shape=(2,), offset=4, axes=(None,)),
        Place(name="b.weight", kind="linear", layer=1, shape=(1, 2), offset=6, axes=(None, None)),
    )
)


def test_layer_statistics_are_those_of_all_its_numbers(generator):
    weights = torch.randn(9, 8, generator=generator) * 3 + 2
    statistics = measure_statistics(TWO_LAYERS, weights, "layer")
    for tensor, part in enumerate((weights[:, :6], weights[:, :6], weights[:, 6:])):
        torch.testing.assert_close(statistics.mean[tensor], part.mean())
        torch.testing.assert_close(statistics.std[tensor], part.std(correction=0))


@pytest.mark.parametrize("kind", ["tensor", "robust"])
def test_bias_and_weight_of_a_layer_have_statistics_of_their_own(kind, generator):
    weights = torch.randn(9, 8, generator=generator)
    weights[:, 4:6] *= 1e-3
    statistics = measure_statistics(TWO_LAYERS, weights, kind)
    assert statistics.std[1] < 1e-2 * statistics.std[0]


def test_standardised_weights_have_mean_0_and_variance_1_in_every_layer(generator):
    layout = build_layout(build_cnn_s())
    scale = torch.linspace(0.1, 5, layout.num_weights)
    weights = torch.randn(20, layout.num_weights, generator=generator) * scale + scale
    standard = measure_statistics(layout, weights, "layer").standardize(layout, weights)
    for layer in range(layout.num_layers):
        part = standard[:, layout.layer_slice(layer)]
        assert abs(part.mean()) < 1e-4
        assert abs(part.std() - 1) < 1e-3


def test_global_statistics_are_those_of_all_numbers(generator):
    weights = torch.randn(9, 8, generator=generator) * 3 + 2
    statistics = measure_statistics(TWO_LAYERS, weights, "global")
    torch.testing.assert_close(statistics.mean, weights.mean().expand(3))
    torch.testing.assert_close(statistics.std, weights.std(correction=0).expand(3))


def test_robust_statistics_ignore_a_few_huge_checkpoints(generator):
    weights = torch.randn(21, 8, generator=generator)
    before = measure_statistics(TWO_LAYERS, weights, "robust")
    weights[:3] *= 1e5
    after = measure_statistics(TWO_LAYERS, weights, "robust")
    assert (after.std / before.std).max() < 2
    assert (measure_statistics(TWO_LAYERS, weights, "layer").std > 1e3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_restore_undoes_standardize(kind, generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(4, layout.num_weights, generator=generator)
    statistics = measure_statistics(layout, weights, kind)
    torch.testing.assert_close(statistics.restore(layout, statistics.standardize(layout, weights)), weights)


def test_no_standardisation_changes_no_bit(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(4, layout.num_weights, generator=generator)
    assert torch.equal(measure_statistics(layout, weights, "none").standardize(layout, weights), weights)


@pytest.mark.parametrize("kind", ["layer", "global"])
def test_running_statistics_do_not_move_the_scale_of_weights(kind, generator):
    *weights, last = TWO_LAYERS.places
    buffer = last.model_copy(update={"name": "b.running_var", "kind": "buffer", "trained": False})
    layout = Layout(places=(*weights, buffer))
    numbers = torch.randn(9, 8, generator=generator)
    numbers[:, 6:] = 1000 + 100 * numbers[:, 6:]
    found = measure_statistics(layout, numbers, kind)
    torch.testing.assert_close(found.std[:2], numbers[:, :6].std(correction=0).expand(2))
    torch.testing.assert_close(found.mean[2], numbers[:, 6:].mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_checkpoint_that_is_not_finite_does_not_count(kind, bad, generator):
    weights = torch.randn(5, 8, generator=generator)
    clean = measure_statistics(TWO_LAYERS, weights[1:], kind)
    weights[0, 3] = bad
    found = measure_statistics(TWO_LAYERS, weights, kind)
    assert torch.equal(found.mean, clean.mean)
    assert torch.equal(found.std, clean.std)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_measured_apart_give_the_same_as_together(kind, generator):
    weights = torch.randn(10, 8, generator=generator)
    parts = join_moments([measure_moments(TWO_LAYERS, part) for part in weights.split([3, 0, 7])])
    found = pool_moments(TWO_LAYERS, parts, kind)
    together = measure_statistics(TWO_LAYERS, weights, kind)
    torch.testing.assert_close(found.mean, together.mean)
    torch.testing.assert_close(found.std, together.std)


def test_layer_without_spread_is_only_shifted():
    statistics = measure_statistics(TWO_LAYERS, torch.full((3, 8), 2.0), "layer")
    assert statistics.std.tolist() == [1.0, 1.0, 1.0]
    assert statistics.standardize(TWO_LAYERS, torch.full((1, 8), 2.0)).abs().max() == 0


def test_any_leading_axes_are_standardised():
    statistics = Statistics(torch.tensor([1.0, 1.0, 2.0]), torch.tensor([2.0, 2.0, 4.0]))
    standard = statistics.standardize(TWO_LAYERS, torch.full((2, 3, 8), 4.0))
    assert standard.shape == (2, 3, 8)
    assert standard[1, 2].tolist() == [1.5] * 6 + [0.5] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_running_statistics_have_statistics_of_their_own(kind, generator):
    structure = find_structure("x", read_shapes(make_network("cifar")), "by_name")
    layout = structure.layout
    vectors = torch.stack([read_vector(structure, make_network("cifar", seed)) for seed in range(3)])
    statistics = measure_statistics(layout, vectors, kind)
    changed = vectors.clone()
    for number, place in enumerate(layout.places):
        part = vectors[:, place.offset : place.stop]
        if place.shape == place.shape[:1] and place.name != "linear.bias":
            if kind != "robust":
                torch.testing.assert_close(statistics.mean[number], part.mean(), rtol=1e-4, atol=1e-6)
            changed[:, place.offset : place.stop] *= 1000
    others = measure_statistics(layout, changed, kind)
    for number, place in enumerate(layout.places):
        if place.kind in ("conv", "linear") or place.name == "linear.bias":
            assert others.std[number] == statistics.std[number]
    back = others.restore(layout, others.standardize(layout, changed))
    torch.testing.assert_close(back, changed, rtol=1e-4, atol=1e-3)


def test_layer_and_global_statistics_are_shared_by_weights_and_biases_alone():
    layout = find_structure("x", read_shapes(make_network("vgg")), "chain").layout
    for kind in ("layer", "global"):
        groups = group_places(layout, kind)
        for place, group in zip(layout.places, groups, strict=True):
            mates = [other for other, same in zip(layout.places, groups, strict=True) if same == group]
            if place.name.startswith("norm"):
                assert mates == [place]
            elif kind == "layer":
                assert mates == list(layout.layer_places(place.layer))
            else:
                assert mates == [other for other in layout.places if not other.name.startswith("norm")]
