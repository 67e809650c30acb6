import pytest
from torch import nn

from weightspace.config import BadInput
from weightspace.imports.structure import find_structure
from weightspace.networks import build_cnn_s, build_layout
from weightspace.networks_in import find_names

LAYOUT = build_layout(build_cnn_s())


def name_tensors(modules):
    """Name the tensors of CNN-s by modules of some names, in the order of these."""
    shapes = [place.shape for place in LAYOUT.places]
    named = {}
    for place, module in enumerate(modules):
        named |= {f"{module}.bias": shapes[2 * place + 1], f"{module}.weight": shapes[2 * place]}
    return named


@pytest.mark.parametrize(
    "modules",
    [
        ("conv1", "conv2", "conv3", "fc1", "fc2"),
        ("module_list.0", "module_list.3", "module_list.6", "module_list.9", "module_list.11"),
        ("features.a", "features.b", "features.c", "head.in", "head.out"),
    ],
    ids=["ours", "published", "in order"],
)
def test_tensors_are_found_by_name_or_order(modules):
    expected = tuple(f"{module}.{tensor}" for module in modules for tensor in ("weight", "bias"))
    assert find_names("x", name_tensors(modules), LAYOUT) == expected


def test_layers_of_shapes_of_their_own_are_found_in_any_order():
    named = name_tensors(("stem", "mid", "deep", "classifier.0", "classifier.1"))
    shuffled = {name: named[name] for name in sorted(named)}
    assert find_names("x", shuffled, LAYOUT) == find_names("x", named, LAYOUT)


def test_layers_of_one_shape_are_not_guessed():
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    layout = find_structure("x", shapes, "chain").layout
    renamed = {
        name.replace("0", "z").replace("1", "y").replace("2", "x").replace("3", "w"): s for name, s in shapes.items()
    }
    assert find_names("x", renamed, layout) == tuple(renamed)
    turned = dict(reversed(renamed.items()))
    with pytest.raises(BadInput, match="does not fit"):
        find_names("x", turned, layout)


def test_what_would_fit_is_said_on_one_line():
    shapes = {f"layer{i}.weight": (2, 2) for i in range(20)}
    with pytest.raises(BadInput, match=r"got layer0.weight 2x2, .* and 8 more; wanted conv1.weight 8x1x5x5,") as told:
        find_names("x", shapes, LAYOUT)
    assert "\n" not in str(told.value)
