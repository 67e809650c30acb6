import torch

from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.weights.align import match_weights
from weightspace.weights.permute import draw_permutations, invert_permutations, permute_weights


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


def test_residual_layers_share_an_order(generator):
    # A stem of 5 channels, a residual block that maps them to themselves, a head.
    shapes = {
        "stem.weight": ((5, 3), ("p0", None)),
        "block.weight": ((5, 5), ("p0", "p0")),
        "head.weight": ((2, 5), (None, "p0")),
    }
    places, offset = [], 0
    for layer, (name, (shape, axes)) in enumerate(shapes.items()):
        places.append(Place(name=name, kind="linear", layer=layer, shape=shape, offset=offset, axes=axes))
        offset = places[-1].stop
    layout = Layout(places=tuple(places))
    reference = torch.randn(layout.num_weights, generator=generator)
    planted, expected = plant(layout, reference, 50, generator)
    assert count_found(match_weights(layout, planted, reference, seed=0), expected) == 50
