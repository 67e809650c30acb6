import itertools

import pytest
import torch

from weightspace.layout import Layout, Place
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout


@pytest.mark.parametrize(
    ("architecture", "num_weights"), [(build_cnn_s(), 2464), (build_cnn_s(3), 2864), (build_cnn_l(), 10853)]
)
def test_published_networks_have_their_published_size(architecture, num_weights):
    # Sizes: Model Zoos (arXiv 2209.14764), table of architectures.
    assert build_layout(architecture).num_weights == num_weights


def test_places_follow_one_another_without_a_gap():
    places = build_layout(build_cnn_s()).places
    assert places[0].offset == 0
    assert all(later.offset == earlier.stop for earlier, later in itertools.pairwise(places))


def test_join_undoes_split():
    layout = build_layout(build_cnn_l())
    weights = torch.randn(2, 3, layout.num_weights, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layout.join(layout.split(weights)), weights)


def test_split_gives_views_of_the_vector():
    layout = build_layout(build_cnn_s())
    weights = torch.zeros(1, layout.num_weights)
    layout.split(weights)["conv2.weight"][0, 1, 2, 3, 4] = 1.0
    place = next(place for place in layout.places if place.name == "conv2.weight")
    assert weights.flatten().nonzero().item() == place.offset + ((1 * 8 + 2) * 5 + 3) * 5 + 4


def test_layers_cover_the_vector():
    layout = build_layout(build_cnn_s())
    spans = [layout.layer_slice(layer) for layer in range(layout.num_layers)]
    assert [i for span in spans for i in range(span.start, span.stop)] == list(range(layout.num_weights))


def test_layers_are_named_by_their_stem():
    layout = build_layout(build_cnn_s())
    assert [layout.layer_name(layer) for layer in range(5)] == ["conv1", "conv2", "conv3", "fc1", "fc2"]


def test_hidden_units_have_a_permutation_each_and_logits_have_none():
    assert build_layout(build_cnn_s()).permutation_sizes == {"p0": 8, "p1": 6, "p2": 4, "p3": 20}


def test_permutation_of_a_flattened_axis_has_the_size_of_its_channels():
    weight = Place(name="a.weight", kind="conv", layer=0, shape=(4, 1, 3, 3), offset=0, axes=("p0", None, None, None))
    after = Place(name="b.weight", kind="linear", layer=1, shape=(2, 36), offset=36, axes=(None, "p0"))
    assert Layout(places=(weight, after)).permutation_sizes == {"p0": 4}


def test_running_statistics_are_told_from_what_is_trained():
    norm = {"kind": "norm", "layer": 0, "shape": (2,), "axes": ("p0",)}
    places = (
        Place(name="a.weight", offset=0, **norm),
        Place(name="a.running_mean", offset=2, trained=False, **norm),
    )
    layout = Layout(places=places)
    assert layout.has_buffers
    assert layout.mask_trained(torch.device("cpu")).tolist() == [True, True, False, False]
    assert not build_layout(build_cnn_s()).has_buffers
    assert layout.carriers("p0") == places


def test_layouts_that_were_used_are_still_alike():
    used = build_layout(build_cnn_s())
    assert used.layer_places(1) == used.layers[1]
    assert used.permutation_sizes
    assert used == build_layout(build_cnn_s())
    assert hash(used) == hash(build_layout(build_cnn_s()))


def test_layout_survives_json():
    layout = build_layout(build_cnn_s())
    assert Layout.model_validate_json(layout.model_dump_json()) == layout
