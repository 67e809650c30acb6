import pytest
import torch
from torch import nn

from weightspace.config import BadInput
from weightspace.imports.structure import find_structure, flatten_state
from weightspace.networks import build_cnn_l, build_layout


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


def test_known_network_has_the_layout_of_our_own():
    shapes = [place.shape for place in build_layout(build_cnn_l()).places]
    state = {f"{'abcde'[i // 2]}.{('weight', 'bias')[i % 2]}": shape for i, shape in enumerate(shapes)}
    structure = find_structure("x", state, "unknown")
    assert structure.layout == build_layout(build_cnn_l())
    assert structure.gap is None


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
