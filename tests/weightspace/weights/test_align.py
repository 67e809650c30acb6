import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.weightspace.residual_networks import WIRING, load_vector, make_network, read_shapes, read_vector
from weightspace.imports.structure import find_structure
from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.weights.align import (
    assign_units,
    descend,
    improve_order,
    match_weights,
    measure_distance,
    settle_forward,
)
from weightspace.weights.permute import draw_permutations, invert_permutations, keep_places, permute_weights


def draw_members(layout, num, generator):
    """Members with every layer scaled by its fan-in, as usual initialisations have."""
    parts = {}
    for place in layout.places:
        fan_in = place.size // place.shape[0] if len(place.shape) > 1 else 10
        parts[place.name] = torch.randn(num, *place.shape, generator=generator) / fan_in**0.5
    return layout.join(parts)


def plant(layout, reference, num, generator):
    permutations = draw_permutations(layout, num, generator)
    planted = permute_weights(layout, reference.expand(num, -1), permutations)
    return planted, invert_permutations(permutations)


def count_found(found, planted):
    return torch.stack([(found[name] == planted[name]).all(1) for name in planted]).all(0).sum().item()


def test_planted_permutations_are_recovered(architecture, generator):
    layout = build_layout(architecture)
    reference = draw_members(layout, 1, generator)[0]
    planted, expected = plant(layout, reference, 50, generator)
    assert count_found(match_weights(layout, planted, reference, seed=0), expected) == 50


def test_planted_permutations_are_recovered_from_noise(architecture, generator):
    layout = build_layout(architecture)
    reference = draw_members(layout, 1, generator)[0]
    planted, expected = plant(layout, reference, 50, generator)
    planted = planted * (1 + 0.1 * torch.randn(planted.shape, generator=generator))
    assert count_found(match_weights(layout, planted, reference, seed=0), expected) == 50


def test_planted_permutations_are_recovered_from_weights_that_are_all_positive(generator):
    layout = build_layout(build_cnn_s())
    reference = torch.rand(layout.num_weights, generator=generator)
    planted, expected = plant(layout, reference, 50, generator)
    assert count_found(match_weights(layout, planted, reference, seed=0), expected) == 50


def test_unit_without_incoming_weights_is_found_by_its_outgoing_ones(generator):
    layout = build_layout(build_cnn_s())
    reference = draw_members(layout, 1, generator)
    tensors = layout.split(reference)
    tensors["conv1.weight"][0, [1, 4]] = 0.0
    tensors["conv1.bias"][0, [1, 4]] = 0.0
    planted, expected = plant(layout, reference[0], 50, generator)
    assert count_found(match_weights(layout, planted, reference[0], seed=0), expected) == 50


def test_outputs_are_unchanged(architecture, generator):
    layout = build_layout(architecture)
    members = draw_members(layout, 4, generator)
    aligned = permute_weights(layout, members, match_weights(layout, members, members[0], seed=0))
    images = torch.randn(3, *architecture.image_shape, generator=generator)
    before = run_networks(architecture, layout.split(members), images, "relu")
    after = run_networks(architecture, layout.split(aligned), images, "relu")
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_no_member_ends_farther_from_the_reference(architecture, generator):
    layout = build_layout(architecture)
    members = draw_members(layout, 20, generator)
    reference = draw_members(layout, 1, generator)[0]
    aligned = permute_weights(layout, members, match_weights(layout, members, reference, seed=0))
    assert ((aligned - reference).norm(dim=1) < (members - reference).norm(dim=1)).all()


def test_no_swap_of_two_units_brings_a_converged_member_nearer(generator):
    layout = build_layout(build_cnn_s())
    members, reference = draw_members(layout, 1, generator), draw_members(layout, 1, generator)[0]
    aligned = permute_weights(layout, members, match_weights(layout, members, reference, seed=0))
    nearest = (aligned - reference).double().norm()
    for name, size in layout.permutation_sizes.items():
        for unit in range(size - 1):
            order = torch.arange(size).unsqueeze(0)
            order[0, [unit, unit + 1]] = order[0, [unit + 1, unit]]
            swapped = permute_weights(layout, aligned, {name: order})
            assert (swapped - reference).double().norm() >= nearest


def test_nearer_of_two_descents_counts(generator):
    layout = build_layout(build_cnn_s())
    members, reference = draw_members(layout, 40, generator), draw_members(layout, 1, generator)[0].double()
    current = members.double()
    _, from_given = descend(layout, current.clone(), reference, keep_places(layout, 40, members.device), 0, 100)
    start = settle_forward(layout, current, reference)
    _, from_settled = descend(layout, current, reference, start, 0, 100)
    assert (from_given < from_settled).any()
    assert (from_settled < from_given).any()
    aligned = permute_weights(layout, members, match_weights(layout, members, reference.float(), seed=0))
    torch.testing.assert_close((aligned.double() - reference).norm(dim=1), from_given.minimum(from_settled))


def test_member_does_not_depend_on_its_neighbours(generator):
    layout = build_layout(build_cnn_s())
    members, reference = draw_members(layout, 10, generator), draw_members(layout, 1, generator)[0]
    together = match_weights(layout, members, reference, seed=3)
    alone = match_weights(layout, members[7:8], reference, seed=3)
    assert all(torch.equal(together[name][7:8], alone[name]) for name in alone)


def test_reference_keeps_its_order(generator):
    layout = build_layout(build_cnn_s())
    reference = draw_members(layout, 1, generator)
    for name, order in match_weights(layout, reference, reference[0], seed=0).items():
        assert order[0].tolist() == list(range(layout.permutation_sizes[name]))


def test_diverged_member_keeps_its_order_and_disturbs_nobody(generator):
    layout = build_layout(build_cnn_s())
    members, reference = draw_members(layout, 3, generator), draw_members(layout, 1, generator)[0]
    healthy = match_weights(layout, members, reference, seed=0)
    members[1, 5] = torch.nan
    found = match_weights(layout, members, reference, seed=0)
    for name, size in layout.permutation_sizes.items():
        assert found[name][1].tolist() == list(range(size))
        assert torch.equal(found[name][[0, 2]], healthy[name][[0, 2]])


def list_linear(shapes):
    """A layout of linear layers without biases, from their shapes and axes."""
    places, offset = [], 0
    for layer, (name, (shape, axes)) in enumerate(shapes.items()):
        places.append(Place(name=name, kind="linear", layer=layer, shape=shape, offset=offset, axes=axes))
        offset = places[-1].stop
    return Layout(places=tuple(places))


# A stem of 5 channels, a residual block that maps them to themselves, a head.
SQUARE = list_linear(
    {
        "stem.weight": ((5, 3), ("p0", None)),
        "block.weight": ((5, 5), ("p0", "p0")),
        "head.weight": ((2, 5), (None, "p0")),
    }
)


def test_residual_layers_share_an_order(generator):
    reference = torch.randn(SQUARE.num_weights, generator=generator)
    planted, expected = plant(SQUARE, reference, 50, generator)
    assert count_found(match_weights(SQUARE, planted, reference, seed=0), expected) == 50


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_step_brings_a_member_farther_even_where_an_order_moves_both_axes(seed):
    generator = torch.Generator().manual_seed(seed)
    members, reference = torch.randn(50, SQUARE.num_weights, generator=generator).double().split([49, 1])
    orders = keep_places(SQUARE, 49, members.device)
    current = members.clone()
    for _ in range(4):
        before = (current - reference).norm(dim=1)
        gained = improve_order(SQUARE, "p0", current, reference[0], orders, ["p0"])
        after = (current - reference).norm(dim=1)
        assert (after[gained] < before[gained]).all()
        assert torch.equal(after[~gained], before[~gained])
    assert torch.equal(permute_weights(SQUARE, members, orders), current)


@pytest.fixture(params=list(WIRING))
def network(request):
    """Each network with batch norms in turn."""
    return make_network(request.param), WIRING[request.param]


def test_planted_permutations_of_norms_and_shortcuts_are_recovered(network, generator):
    structure = find_structure("x", read_shapes(network[0]), network[1])
    reference = read_vector(structure, network[0])
    planted, expected = plant(structure.layout, reference, 20, generator)
    planted += 0.01 * torch.randn(planted.shape, generator=generator) * structure.layout.mask_trained(planted.device)
    assert count_found(match_weights(structure.layout, planted, reference, seed=0), expected) == 20


@pytest.mark.parametrize("kind", list(WIRING))
def test_aligned_networks_with_norms_and_shortcuts_compute_the_same(kind):
    first, second = make_network(kind, seed=1), make_network(kind, seed=2)
    structure = find_structure("x", read_shapes(first), WIRING[kind])
    layout = structure.layout
    member, reference = read_vector(structure, first).unsqueeze(0), read_vector(structure, second)
    aligned = permute_weights(layout, member, match_weights(layout, member, reference, seed=0))
    assert measure_distance(layout, aligned, reference) < measure_distance(layout, member, reference)
    images = torch.randn(4, 3, 8, 8)
    wanted = first(images)
    load_vector(structure, first, aligned[0])
    torch.testing.assert_close(first(images), wanted, rtol=1e-5, atol=1e-5)


def test_network_of_which_no_unit_may_move_is_matched_as_it_is(generator):
    layout = find_structure("x", read_shapes(make_network("vgg")), "unknown").layout
    members = torch.randn(3, layout.num_weights, generator=generator)
    assert match_weights(layout, members, members[0], seed=0) == {}


def test_running_statistics_say_nothing_about_order(generator):
    first, second = make_network("vgg", seed=1), make_network("vgg", seed=2)
    structure = find_structure("x", read_shapes(first), "chain")
    layout = structure.layout
    member, reference = read_vector(structure, first).unsqueeze(0), read_vector(structure, second)
    found = match_weights(layout, member, reference, seed=0)
    other = torch.where(layout.mask_trained(member.device), member, 100 * torch.rand(member.shape))
    assert not torch.equal(other, member)
    changed = match_weights(layout, other, reference, seed=0)
    assert all(torch.equal(changed[name], found[name]) for name in found)
    assert torch.equal(measure_distance(layout, other, reference), measure_distance(layout, member, reference))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6), lean=st.sampled_from([0.0, 0.5, 3.0]))
def test_pairing_has_the_highest_score_there_is(seed, size, lean):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(10, size, size, generator=generator, dtype=torch.float64) + lean * torch.eye(size)
    pairs = assign_units(scores)
    assert torch.equal(pairs.sort(1).values, torch.arange(size).expand(10, -1))
    for one, pair in zip(scores.numpy(), pairs.tolist(), strict=True):
        best = one[linear_sum_assignment(one, maximize=True)].sum()
        assert one[range(size), pair].sum() == pytest.approx(best)
