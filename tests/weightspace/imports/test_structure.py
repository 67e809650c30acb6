import re
from collections import Counter

import pytest
import torch
from torch import nn

from tests.weightspace.residual_networks import (
    WIRING,
    ResNet,
    load_vector,
    make_network,
    read_shapes,
    read_vector,
)
from weightspace.config import BadInput
from weightspace.imports.state import clean_state, split_numbers
from weightspace.imports.structure import find_structure, flatten_state
from weightspace.networks import ARCHITECTURES, build_layout, build_small_cnn
from weightspace.weights.permute import draw_permutations, permute_weights


def shapes_of(module):
    return {n: tuple(t.shape) for n, t in module.state_dict().items() if not n.endswith("num_batches_tracked")}


def permute_state(structure, state, name, order):
    """Reorder the units of one permutation in a state dict, by the axes that the layout says."""
    moved = {}
    for source, place in zip(structure.names, structure.layout.places, strict=True):
        tensor = state[source]
        for axis, (axis_name, length) in enumerate(zip(place.axes, place.shape, strict=True)):
            if axis_name == name:
                block = length // len(order)
                index = (order[:, None] * block + torch.arange(block)).flatten()
                tensor = tensor.index_select(axis, index)
        moved[source] = tensor
    return moved


NETWORKS = {
    "plain": lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 7), nn.Linear(7, 3)),
    "norm": lambda: nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    ),
    "no_bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_permutations_of_a_chain_keep_the_function(kind):
    torch.manual_seed(0)
    network = NETWORKS[kind]()
    network(torch.randn(16, 1, 8, 8))  # running statistics that differ from unit to unit
    network.eval()
    structure = find_structure("x", shapes_of(network), "chain")
    state = network.state_dict()
    assert structure.layout.permutation_sizes
    images = torch.randn(4, 1, 8, 8)
    wanted = network(images)
    for name, size in structure.layout.permutation_sizes.items():
        moved = permute_state(structure, state, name, torch.randperm(size))
        network.load_state_dict(moved, strict=False)
        torch.testing.assert_close(network(images), wanted)


def test_running_statistics_are_not_trained():
    structure = find_structure("x", shapes_of(NETWORKS["norm"]()), "chain")
    marked = {place.name for place in structure.layout.places if not place.trained}
    assert marked == {"norm1.running_mean", "norm1.running_var"}
    assert {place.kind for place in structure.layout.places if not place.trained} == {"buffer"}


def name_shapes(architecture, modules="abcde"):
    """Give the tensors of a network of ours other names."""
    shapes = [place.shape for place in build_layout(architecture).places]
    return {f"{modules[i // 2]}.{('weight', 'bias')[i % 2]}": shape for i, shape in enumerate(shapes)}


KNOWN = [build(3, 10) for build in ARCHITECTURES.values()]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_chain_with_the_tensors_of_our_own_network_is_that(known):
    structure = find_structure("x", name_shapes(known), "chain")
    assert structure.layout == build_layout(known)
    assert (structure.architecture, structure.gap) == (known, None)


@pytest.mark.parametrize("wiring", ["unknown", "by_name"])
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_shapes_of_our_own_network_do_not_say_how_layers_are_wired(known, wiring):
    structure = find_structure("x", name_shapes(known), wiring)
    assert structure.layout.permutation_sizes == {}
    assert (structure.architecture, structure.gap) == (None, "which layer feeds which is not known")


def test_padded_chain_is_permuted_but_is_no_network_of_ours():
    known = build_small_cnn(3)
    structure = find_structure("x", name_shapes(known), "chain", padded=True)
    assert structure.layout.permutation_sizes == build_layout(known).permutation_sizes
    assert (structure.architecture, structure.gap) == (None, None)


def test_residual_network_with_the_tensors_of_our_own_is_permuted_along_its_streams():
    shapes = name_shapes(build_small_cnn(3), ["conv1", "layer1.0.conv1", "layer1.0.conv2", "fc"])
    structure = find_structure("x", shapes, "by_name")
    assert structure.layout.permutation_sizes == {"stream0": 16, "layer1.0.conv1": 16}
    assert structure.architecture is None


def test_unknown_wiring_is_never_guessed():
    structure = find_structure("x", shapes_of(NETWORKS["plain"]()), "unknown")
    assert structure.layout.permutation_sizes == {}
    assert structure.gap == "which layer feeds which is not known"
    assert structure.layout.places[0].name == "0.weight"


def test_chain_that_is_none_is_refused():
    shapes = {"a.weight": (8, 4), "b.weight": (8, 4)}
    with pytest.raises(BadInput, match=r"x: b\.weight takes 4 inputs, and what comes before gives 8, wanted a chain"):
        find_structure("x", shapes, "chain")


def test_dense_layer_never_spreads_over_a_dense_one():
    shapes = {"a.weight": (4, 4), "b.weight": (3, 8)}
    with pytest.raises(BadInput, match=r"b\.weight takes 8 inputs"):
        find_structure("x", shapes, "chain")


def test_norm_that_may_be_of_groups_is_no_part_of_a_chain():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 3))
    with pytest.raises(BadInput, match=r"1\.weight of shape \(4,\) is neither"):
        find_structure("x", shapes_of(module), "chain")


def test_layers_of_one_list_are_ordered_by_number():
    shapes = {f"module_list.{i}.weight": shape for i, shape in ((10, (3, 5)), (9, (5, 7)), (0, (7, 2)))}
    structure = find_structure("x", shapes, "by_name")
    assert [place.shape for place in structure.layout.places] == [(7, 2), (5, 7), (3, 5)]
    assert structure.layout.permutation_sizes == {"p0": 7, "p1": 5}


def test_every_layer_has_one_number_of_outputs():
    module = nn.TransformerEncoderLayer(8, 2, 16)
    structure = find_structure("x", shapes_of(module) | {"cls": (1, 1, 8)}, "unknown")
    for layer in range(structure.layout.num_layers):
        assert len({place.shape[0] for place in structure.layout.layer_places(layer)}) == 1
    state = module.state_dict() | {"cls": torch.zeros(1, 1, 8)}
    assert len(flatten_state(structure, state)) == structure.layout.num_weights


@pytest.mark.parametrize("kind", list(WIRING))
def test_permutations_of_norms_and_shortcuts_keep_the_function(kind):
    network, generator = make_network(kind), torch.Generator().manual_seed(0)
    structure = find_structure("x", read_shapes(network), WIRING[kind])
    layout, weights = structure.layout, read_vector(structure, network)
    images = torch.randn(4, 3, 8, 8)
    wanted = network(images)
    for name, size in layout.permutation_sizes.items():
        order = torch.randperm(size, generator=generator).unsqueeze(0)
        load_vector(structure, network, permute_weights(layout, weights.unsqueeze(0), {name: order})[0])
        torch.testing.assert_close(network(images), wanted, rtol=1e-5, atol=1e-5)
    together = permute_weights(layout, weights.unsqueeze(0), draw_permutations(layout, 1, generator))[0]
    assert not torch.equal(together, weights)
    load_vector(structure, network, together)
    torch.testing.assert_close(network(images), wanted, rtol=1e-5, atol=1e-5)


def test_residual_network_has_a_permutation_for_each_stream_and_each_block():
    structure = find_structure("x", read_shapes(ResNet(width=4, depths=(2, 2))), "by_name")
    sizes = structure.layout.permutation_sizes
    blocks = {f"layer{stage}.{number}.conv1": 4 * stage for stage in (1, 2) for number in (0, 1)}
    assert sizes == {"stream0": 4, "stream1": 8, **blocks}
    axes = {place.name: place.axes[:2] for place in structure.layout.places}
    assert axes["conv1.weight"] == ("stream0", None)
    assert axes["layer1.1.conv2.weight"] == ("stream0", "layer1.1.conv1")
    assert axes["layer2.0.conv1.weight"] == ("layer2.0.conv1", "stream0")
    assert axes["layer2.0.downsample.0.weight"] == ("stream1", "stream0")
    assert axes["fc.weight"] == (None, "stream1")


@pytest.mark.parametrize("kind", list(WIRING))
def test_vectors_of_a_batch_norm_carry_the_permutation_of_what_they_follow(kind):
    structure = find_structure("x", read_shapes(make_network(kind)), WIRING[kind])
    layout = structure.layout
    for layer in range(1, layout.num_layers):
        names = {place.name.rpartition(".")[2]: place for place in layout.layer_places(layer)}
        if "running_mean" in names:
            assert {place.axes for place in names.values()} == {layout.layer_places(layer - 1)[0].axes[:1]}
            assert {name for name, place in names.items() if not place.trained} == {"running_mean", "running_var"}


def test_order_of_the_file_and_marks_of_wrappers_make_no_difference():
    state = make_network("cifar").state_dict()
    plain = find_structure("x", {n: tuple(t.shape) for n, t in clean_state("x", state, Counter()).items()}, "by_name")
    for prefix in ("", "module.", "backbone."):
        wrapped = {prefix + name: state[name] for name in sorted(state, key=split_numbers)}
        kept = clean_state("x", wrapped, Counter())
        assert not any("num_batches_tracked" in name for name in kept)
        structure = find_structure("x", {name: tuple(t.shape) for name, t in kept.items()}, "by_name")
        assert structure.layout == plain.layout
        assert torch.equal(
            torch.from_numpy(flatten_state(structure, kept)), torch.from_numpy(flatten_state(plain, state))
        )


def drop(shapes, part):
    return {name: shape for name, shape in shapes.items() if part not in name}


MISFITS = {
    r"layer1\.0\.se\.weight is in no residual network": lambda s: s | {"layer1.0.se.weight": (4, 4, 1, 1)},
    r"layer1\.0\.bn1\.weight of shape \(4,\) is neither": lambda s: drop(s, "layer1.0.bn1.running"),
    r"layer2\.0\.conv1\.weight takes 5 inputs, and what comes before gives 4": lambda s: (
        s | {"layer2.0.conv1.weight": (8, 5, 3, 3)}
    ),
    r"fc\.weight takes 9 inputs, and what comes before gives 8": lambda s: s | {"fc.weight": (3, 9)},
    r"layer2\.0 adds 8 channels to 6": lambda s: (
        drop(s, "downsample.1")
        | {"layer2.0.downsample.0.weight": (6, 4, 1, 1)}
        | {f"layer2.0.downsample.1.{name}": (6,) for name in ("weight", "bias", "running_mean", "running_var")}
    ),
    r"conv1\.weight has no batch norm of its 4 channels": lambda s: {n: v for n, v in s.items() if n[:4] != "bn1."},
    "has conv1 before its blocks and one linear layer behind": lambda s: drop(s, "fc."),
    r"layer1\.0 has a norm or a shortcut without convolution": lambda s: (
        {n: v for n, v in s.items() if "layer1.0.conv" not in n}
    ),
    "some norms stand before their convolutions": lambda s: {
        name: s[name] for name in sorted(s, key=lambda name: "conv1" in name and "layer" in name)
    },
    r"layer1\.0\.shortcut\.0\.weight stands where layer1\.0\.downsample\.0\.weight does": lambda s: (
        s | {f"layer1.0.{name}.0.weight": (4, 4, 1, 1) for name in ("downsample", "shortcut")}
    ),
}


@pytest.mark.parametrize("message", MISFITS)
def test_tensors_that_are_no_known_residual_network_are_a_gap(message):
    shapes = MISFITS[message](read_shapes(ResNet(width=4, depths=(2, 2))))
    structure = find_structure("x", shapes, "by_name")
    assert re.search(message, structure.gap), structure.gap
    assert structure.layout.permutation_sizes == {}


def test_stream_that_is_padded_stays_and_what_runs_inside_its_blocks_does_not():
    structure = find_structure("x", read_shapes(make_network("padded")), "by_name")
    assert structure.gap is None
    assert structure.layout.permutation_sizes == {"layer1.0.conv1": 4, "layer2.0.conv1": 8, "layer2.1.conv1": 8}


def test_residual_network_without_norms_is_wired():
    shapes = {name: shape for name, shape in read_shapes(ResNet()).items() if "bn" not in name and ".1." not in name}
    assert find_structure("x", shapes, "by_name").layout.permutation_sizes["stream3"] == 32


def test_residual_network_is_no_chain_even_where_shapes_are():
    shapes = read_shapes(ResNet(depths=(2,)))
    with pytest.raises(BadInput, match=r"x: conv1\.weight and others have names of a residual network, wanted"):
        find_structure("x", shapes, "chain")
    assert find_structure("x", shapes, "unknown").gap == "which layer feeds which is not known"
