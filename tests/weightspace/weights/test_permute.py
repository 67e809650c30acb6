import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weightspace.residual_networks import WIRING, make_network, read_shapes
from weightspace.imports.structure import find_structure
from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.weights import permute
from weightspace.weights.permute import (
    draw_permutations,
    expand_blocks,
    index_permutations,
    invert_permutations,
    keep_places,
    permute_rows,
    permute_weights,
)


def test_permuted_network_computes_the_same(architecture, generator):
    layout = build_layout(architecture)
    weights = torch.randn(3, layout.num_weights, generator=generator) * 0.1
    permuted = permute_weights(layout, weights, draw_permutations(layout, 3, generator))
    images = torch.randn(4, *architecture.image_shape, generator=generator)
    before = run_networks(architecture, layout.split(weights), images, "tanh")
    after = run_networks(architecture, layout.split(permuted), images, "tanh")
    assert not torch.equal(weights, permuted)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_inverse_restores_every_bit(architecture, generator):
    layout = build_layout(architecture)
    weights = torch.randn(5, layout.num_weights, generator=generator)
    permutations = draw_permutations(layout, 5, generator)
    there = permute_weights(layout, weights, permutations)
    assert torch.equal(permute_weights(layout, there, invert_permutations(permutations)), weights)


def test_index_is_a_reordering_of_the_whole_vector(architecture, generator):
    layout = build_layout(architecture)
    index = index_permutations(layout, draw_permutations(layout, 4, generator))
    assert torch.equal(index.sort(1).values, torch.arange(layout.num_weights).expand(4, -1))


def test_orders_that_keep_places_move_nothing(architecture, generator):
    layout = build_layout(architecture)
    weights = torch.randn(2, layout.num_weights, generator=generator)
    assert torch.equal(permute_weights(layout, weights, keep_places(layout, 2, weights.device)), weights)


def test_missing_name_stays(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(2, layout.num_weights, generator=generator)
    some = {"p1": draw_permutations(layout, 2, generator)["p1"]}
    all_names = {**keep_places(layout, 2, weights.device), **some}
    assert torch.equal(permute_weights(layout, weights, some), permute_weights(layout, weights, all_names))


def test_unit_named_by_the_order_comes_to_its_place():
    layout = build_layout(build_cnn_s())
    weights = torch.arange(layout.num_weights).float().unsqueeze(0)
    order = torch.tensor([[2, 0, 1, 3, 5, 4]])
    before, after = layout.split(weights), layout.split(permute_weights(layout, weights, {"p1": order}))
    assert torch.equal(after["conv2.weight"][0], before["conv2.weight"][0, order[0]])
    assert torch.equal(after["conv2.bias"][0], before["conv2.bias"][0, order[0]])
    assert torch.equal(after["conv3.weight"][0], before["conv3.weight"][0][:, order[0]])


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), block=st.integers(1, 4))
def test_flattened_axis_moves_in_blocks(order, block):
    spread = expand_blocks(torch.tensor([order]), 5 * block)[0].tolist()
    assert spread == [unit * block + i for unit in order for i in range(block)]


def test_two_axes_of_one_name_move_together(generator):
    weight = Place(name="a.weight", kind="linear", layer=0, shape=(4, 4), offset=0, axes=("p0", "p0"))
    layout = Layout(places=(weight,))
    weights = torch.randn(1, 16, generator=generator)
    order = torch.tensor([[3, 1, 0, 2]])
    permuted = permute_weights(layout, weights, {"p0": order}).reshape(4, 4)
    assert torch.equal(permuted, weights.reshape(4, 4)[order[0]][:, order[0]])


@pytest.mark.parametrize("kind", list(WIRING))
def test_rows_permuted_in_place_are_as_those_permuted_anew(kind, generator):
    layout = find_structure("x", read_shapes(make_network(kind)), WIRING[kind]).layout
    weights = torch.randn(4, layout.num_weights, generator=generator)
    rows = torch.tensor([3, 1])
    permutations = draw_permutations(layout, 2, generator)
    expected = weights.clone()
    expected[rows] = permute_weights(layout, weights[rows], permutations)
    permute_rows(layout, weights, rows, permutations)
    assert torch.equal(weights, expected)


def test_network_of_which_no_unit_may_move_stays(generator):
    layout = find_structure("x", read_shapes(make_network("vgg")), "unknown").layout
    weights = torch.randn(2, layout.num_weights, generator=generator)
    permutations = draw_permutations(layout, 2, generator)
    assert permutations == {}
    assert torch.equal(permute_weights(layout, weights, permutations), weights)


def test_result_does_not_depend_on_how_many_rows_go_at_once(monkeypatch, generator):
    layout = build_layout(build_cnn_s())
    weights = torch.randn(7, layout.num_weights, generator=generator)
    permutations = draw_permutations(layout, 7, generator)
    whole = permute_weights(layout, weights, permutations)
    monkeypatch.setitem(permute.NUMBERS_AT_ONCE, "cpu", 2 * layout.num_weights)
    assert torch.equal(permute_weights(layout, weights, permutations), whole)


def test_all_orders_are_as_likely(generator):
    layout = Layout(places=(Place(name="a.bias", kind="bias", layer=0, shape=(3,), offset=0, axes=("p0",)),))
    orders = draw_permutations(layout, 6000, generator)["p0"]
    counts = (orders * torch.tensor([9, 3, 1])).sum(1).bincount()
    counts = counts[counts > 0]
    # 6 orders, 1,000 each; 150 is more than five standard deviations of a binomial count.
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 150


def test_no_members_give_no_members(generator):
    layout = build_layout(build_cnn_s())
    weights = torch.empty(0, layout.num_weights)
    assert permute_weights(layout, weights, draw_permutations(layout, 0, generator)).shape == weights.shape
