import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weightspace.residual_networks import WIRING, make_network, read_shapes, read_vector
from weightspace.config import BadInput
from weightspace.imports.structure import find_structure
from weightspace.networks import Architecture, Block, build_cnn_l, build_cnn_s, build_layout, run_networks
from weightspace.weights.align import match_weights
from weightspace.weights.canonical import (
    HOMOGENEOUS,
    CanonicalForm,
    Symmetry,
    find_signs,
    lean_negative,
    list_orientable,
    measure_norms,
    scale_units,
    sort_units,
    sum_unordered,
    turn_signs,
    weigh_units,
)
from weightspace.weights.canonical_config import Canonical
from weightspace.weights.permute import draw_permutations, keep_places, permute_weights

POOLED = Architecture(
    name="pooled",
    channels=2,
    height=8,
    width=8,
    blocks=(
        Block(kind="conv", features=4, kernel=3, pool=True),
        Block(kind="conv", features=3, kernel=2),
        Block(kind="linear", features=5),
        Block(kind="linear", features=3, activate=False),
    ),
)
SEEDS = st.integers(0, 2**32 - 1)
KEYS = ["incoming", "both"]
FORM = CanonicalForm(build_layout(POOLED), POOLED, Canonical(scale=True, orient=True))


def seed_generator(seed):
    return torch.Generator().manual_seed(seed)


def draw_weights(layout, num, generator):
    return torch.randn(num, layout.num_weights, generator=generator) * 0.3


def shuffle(layout, weights, generator):
    return permute_weights(layout, weights, draw_permutations(layout, len(weights), generator))


def flip(layout, weights, generator):
    """Turn the signs of random units wherever signs can be turned."""
    signs = {
        name: torch.randint(2, (len(weights), layout.permutation_sizes[name]), generator=generator) * 2 - 1
        for name in list_orientable(POOLED)
    }
    return turn_signs(layout, weights, signs)


def run(architecture, weights, activation, generator):
    images = torch.randn(5, *architecture.image_shape, generator=generator)
    return run_networks(architecture, build_layout(architecture).split(weights), images, activation)


def orient(weights):
    return turn_signs(FORM.layout, weights, FORM.find_signs(weights, ["tanh"] * len(weights)))


def make_canonical(weights, activation):
    """Scale, turn and sort."""
    activations = [activation] * len(weights)
    scaled = FORM.scale(weights, activations)
    signs = FORM.find_signs(scaled, activations)
    orders = sort_units(FORM.layout, turn_signs(FORM.layout, scaled, signs), "both")
    return Symmetry(orders, signs).apply(FORM.layout, scaled)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, key=st.sampled_from(KEYS))
def test_permuted_copies_sort_to_the_same_bits(seed, key):
    generator = seed_generator(seed)
    layout = build_layout(POOLED)
    weights = draw_weights(layout, 1, generator).expand(6, -1)
    copies = shuffle(layout, weights, generator)
    found = permute_weights(layout, copies, sort_units(layout, copies, key))
    assert (found == found[0]).all()
    assert torch.equal(found[0].sort().values, weights[0].sort().values)


@pytest.mark.parametrize("kind", list(WIRING))
def test_permuted_copies_of_norms_and_shortcuts_sort_to_the_same_bits(kind, generator):
    network = make_network(kind)
    structure = find_structure("x", read_shapes(network), WIRING[kind])
    copies = shuffle(structure.layout, read_vector(structure, network).expand(4, -1), generator)
    found = permute_weights(structure.layout, copies, sort_units(structure.layout, copies, "incoming"))
    assert (found == found[0]).all()


def test_units_come_by_falling_norm_of_incoming_weights_and_bias(generator):
    layout = build_layout(build_cnn_s())
    weights = draw_weights(layout, 3, generator)
    tensors = layout.split(permute_weights(layout, weights, sort_units(layout, weights, "incoming")))
    norms = torch.cat([tensors["fc1.weight"], tensors["fc1.bias"].unsqueeze(2)], 2).double().norm(dim=2)
    assert (norms.diff(dim=1) < 0).all()


def test_units_of_one_norm_are_told_apart_by_what_goes_out(generator):
    layout = build_layout(POOLED)
    weights = draw_weights(layout, 1, generator)
    for name in ("conv1.weight", "conv1.bias"):  # as if conv1 was dead
        layout.split(weights)[name].zero_()
    copies = shuffle(layout, weights.expand(10, -1), generator)
    found = permute_weights(layout, copies, sort_units(layout, copies, "incoming"))
    assert (found == found[0]).all()


def test_running_statistics_say_nothing_about_order(generator):
    network = make_network("vgg")
    structure = find_structure("x", read_shapes(network), "chain")
    weights = read_vector(structure, network).unsqueeze(0)
    changed = torch.where(structure.layout.mask_trained(weights.device), weights, torch.rand(weights.shape))
    before, after = (sort_units(structure.layout, one, "both") for one in (weights, changed))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_diverged_network_keeps_its_order(generator):
    layout = build_layout(POOLED)
    weights = draw_weights(layout, 2, generator)
    weights[1, 3] = torch.nan
    orders = sort_units(layout, weights, "incoming")
    assert all(torch.equal(orders[name][1], order[0]) for name, order in keep_places(layout, 1, weights.device).items())


@pytest.mark.parametrize("activation", HOMOGENEOUS)
@pytest.mark.parametrize("architecture", [build_cnn_s(3), build_cnn_l(), POOLED], ids=lambda one: one.name)
def test_scaled_network_computes_the_same(architecture, activation, generator):
    weights = draw_weights(build_layout(architecture), 3, generator)
    scaled = scale_units(architecture, weights, [activation] * 3)
    assert not torch.equal(scaled, weights)
    before, after = (run(architecture, one, activation, seed_generator(1)) for one in (weights, scaled))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_every_hidden_unit_has_incoming_weights_of_norm_one(generator):
    layout = build_layout(POOLED)
    scaled = scale_units(POOLED, draw_weights(layout, 4, generator), ["relu"] * 4)
    for name in layout.permutation_sizes:
        norms = measure_norms(layout, name, scaled, outgoing=False)
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-6, atol=0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_rescaled_copies_scale_to_the_same(seed):
    generator = seed_generator(seed)
    layout = build_layout(POOLED)
    weights = draw_weights(layout, 3, generator)
    copies = weights.clone()
    for name, size in layout.permutation_sizes.items():
        weigh_units(layout, copies, name, torch.rand(3, size, generator=generator) * 5 + 0.1)
    scaled = [scale_units(POOLED, one, ["relu"] * 3) for one in (weights, copies)]
    torch.testing.assert_close(scaled[1], scaled[0], rtol=1e-5, atol=1e-6)


def test_dead_unit_keeps_its_scale(generator):
    layout = build_layout(POOLED)
    weights = draw_weights(layout, 1, generator)
    tensors = layout.split(weights)
    tensors["fc1.weight"][0, 2] = 0
    tensors["fc1.bias"][0, 2] = 0
    scaled = scale_units(POOLED, weights, ["relu"])
    assert scaled.isfinite().all()
    assert torch.equal(layout.split(scaled)["fc2.weight"][..., 2], tensors["fc2.weight"][..., 2])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "silu", None])
def test_other_activations_keep_every_scale(activation, generator):
    weights = draw_weights(build_layout(POOLED), 2, generator)
    scaled = scale_units(POOLED, weights, ["relu", activation])
    assert torch.equal(scaled[1], weights[1])
    assert not torch.equal(scaled[0], weights[0])


def test_network_that_is_about_to_overflow_keeps_its_scale(generator):
    weights = draw_weights(build_layout(POOLED), 2, generator)
    weights[1] *= 1e12
    scaled = scale_units(POOLED, weights, ["relu"] * 2)
    assert torch.equal(scaled[1], weights[1])
    assert not torch.equal(scaled[0], weights[0])


def test_diverged_network_keeps_its_scale(generator):
    weights = draw_weights(build_layout(POOLED), 1, generator)
    weights[0, 3] = torch.inf
    assert torch.equal(scale_units(POOLED, weights, ["relu"]), weights)


def test_oriented_network_computes_the_same(generator):
    weights = draw_weights(FORM.layout, 4, generator)
    oriented = orient(weights)
    assert not torch.equal(oriented, weights)
    before, after = (run(POOLED, one, "tanh", seed_generator(1)) for one in (weights, oriented))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_signs_before_a_maximum_are_left_alone_because_turning_them_changes_the_function(generator):
    layout = build_layout(POOLED)
    assert list_orientable(POOLED) == ["p1", "p2"]
    assert list_orientable(build_cnn_s()) == ["p2", "p3"]
    assert list_orientable(build_cnn_l()) == ["p3"]
    weights = draw_weights(layout, 1, generator)
    before = run(POOLED, weights, "tanh", seed_generator(1))
    for name, same in (("p0", False), ("p1", True), ("p2", True)):
        turned = weights.clone()
        weigh_units(layout, turned, name, -torch.ones(1, layout.permutation_sizes[name]))
        assert torch.allclose(run(POOLED, turned, "tanh", seed_generator(1)), before, atol=1e-5) == same


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_copies_with_signs_turned_orient_to_the_same_bits(seed):
    generator = seed_generator(seed)
    weights = draw_weights(FORM.layout, 1, generator).expand(5, -1)
    assert torch.equal(orient(flip(FORM.layout, weights, generator)), orient(weights))


def test_oriented_units_have_weights_that_do_not_sum_below_zero(generator):
    tensors = FORM.layout.split(orient(draw_weights(FORM.layout, 5, generator)))
    for name in ("conv2", "fc1"):
        assert (tensors[f"{name}.weight"].flatten(2).sum(2) + tensors[f"{name}.bias"] > -1e-5).all()
    assert (tensors["conv1.weight"].flatten(2).sum(2) + tensors["conv1.bias"] < 0).any()


NUMBERS = st.lists(st.floats(-1e20, 1e20), min_size=2, max_size=40)


@given(numbers=NUMBERS, seed=SEEDS)
def test_order_of_numbers_does_not_change_one_bit_of_their_sum(numbers, seed):
    given_order = torch.tensor([[numbers]], dtype=torch.float64)
    other = given_order[..., torch.randperm(len(numbers), generator=seed_generator(seed))]
    assert torch.equal(sum_unordered(given_order), sum_unordered(other))
    assert torch.equal(lean_negative(given_order), lean_negative(other))


@given(numbers=NUMBERS)
def test_numbers_lean_to_one_side_or_turned_to_the_other_unless_they_cancel(numbers):
    both = torch.tensor([[numbers], [[-one for one in numbers]]], dtype=torch.float64)
    lean = lean_negative(both).sum()
    assert lean == 1 or torch.equal(sum_unordered(both.clamp(min=0))[0], sum_unordered(both.clamp(min=0))[1])


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "gelu", "leaky_relu", "silu", None])
def test_other_activations_keep_their_signs(activation, generator):
    signs = find_signs(POOLED, draw_weights(build_layout(POOLED), 2, generator), ["tanh", activation])
    assert all((sign[1] == 1).all() for sign in signs.values())
    assert any((sign[0] == -1).any() for sign in signs.values())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, activation=st.sampled_from(["tanh", "relu", "gelu"]))
def test_permuted_and_turned_copies_have_one_canonical_form(seed, activation):
    generator = seed_generator(seed)
    copies = draw_weights(FORM.layout, 1, generator).expand(5, -1)
    if activation == "tanh":
        copies = flip(FORM.layout, copies, generator)
    found = make_canonical(shuffle(FORM.layout, copies, generator), activation)
    assert (found == found[0]).all()


def test_rescaled_and_permuted_copies_have_one_canonical_form(generator):
    copies = shuffle(FORM.layout, draw_weights(FORM.layout, 1, generator).expand(20, -1), generator)
    for name, size in FORM.layout.permutation_sizes.items():
        weigh_units(FORM.layout, copies, name, torch.rand(20, size, generator=generator) * 5 + 0.1)
    found = make_canonical(copies, "relu")
    torch.testing.assert_close(found, found[:1].expand(20, -1), rtol=1e-5, atol=1e-6)


def test_member_found_at_one_epoch_computes_the_same_at_all(generator):
    epochs = draw_weights(FORM.layout, 6, generator)
    activations = ["tanh"] * 3 + ["relu"] * 3
    scaled = FORM.scale(epochs, activations)
    signs = FORM.find_signs(scaled[[2, 5]], ["tanh", "relu"])
    last = turn_signs(FORM.layout, scaled[[2, 5]], signs)
    symmetry = Symmetry(match_weights(FORM.layout, last, draw_weights(FORM.layout, 1, generator)[0], seed=0), signs)
    found = symmetry.take(torch.tensor([0, 0, 0, 1, 1, 1])).apply(FORM.layout, scaled)
    assert (found != epochs).any(1).all()
    for rows, activation in ((slice(0, 3), "tanh"), (slice(3, 6), "relu")):
        before, after = (run(POOLED, one[rows], activation, seed_generator(1)) for one in (epochs, found))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_planted_permutations_and_signs_are_recovered_by_orienting_and_matching(generator):
    reference = orient(draw_weights(FORM.layout, 1, generator))
    copies = shuffle(FORM.layout, flip(FORM.layout, reference.expand(200, -1), generator), generator)
    oriented = orient(copies)
    found = permute_weights(FORM.layout, oriented, match_weights(FORM.layout, oriented, reference[0], seed=0))
    assert (found == reference).all(1).sum() == 200


def test_form_without_options_changes_nothing(generator):
    form = CanonicalForm(FORM.layout, None, Canonical(scale=False, orient=False))
    weights = draw_weights(FORM.layout, 2, generator)
    assert torch.equal(form.scale(weights, ["relu"] * 2), weights)
    assert form.find_signs(weights, ["tanh"] * 2) == {}
    assert turn_signs(FORM.layout, weights, {}) is weights


@pytest.mark.parametrize("options", [{"scale": True, "orient": False}, {"scale": False, "orient": True}])
def test_scale_and_sign_of_networks_that_are_not_known_are_refused(options):
    with pytest.raises(BadInput, match="canonical: got scale or orient for networks whose architecture is not known"):
        CanonicalForm(FORM.layout, None, Canonical(**options))
