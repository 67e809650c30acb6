import pytest
import torch

from weightspace.imports.structure import find_structure
from weightspace.weights.permute import draw_permutations, permute_weights
from weightspace.zoo.kinds import build_module, lay_out_network
from weightspace.zoo.modules import read_vector, run_module
from weightspace.zoo.residual import describe_residual

SMALL = {depth: describe_residual(depth, 2, (1, 8, 8), 3) for depth in (18, 50)}


def warm(network):
    """Make a module whose running statistics and norms are not as they start."""
    torch.manual_seed(0)
    module = build_module(network, "relu").train()
    for name, tensor in module.named_parameters():
        if "bn" in name or "downsample.1" in name:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    with torch.no_grad():
        module(torch.randn(4, *network.image_shape))
    return module.eval()


@pytest.mark.parametrize(
    ("depth", "num_classes", "count"),
    # 18: arXiv 2209.14764, one count for each image set. 50: torchvision's 25,557,032 for 1,000 classes and a stem of
    # 7x7, less 7,680 of the stem and 2,028,510 of the last layer.
    [(18, 10, 11_173_962), (18, 100, 11_220_132), (18, 200, 11_271_432), (50, 10, 23_520_842)],
)
def test_a_network_has_the_published_number_of_weights(depth, num_classes, count):
    layout = lay_out_network(describe_residual(depth, 64, (3, 32, 32), num_classes))
    assert sum(place.size for place in layout.places if place.trained) == count


@pytest.mark.parametrize("network", SMALL.values(), ids=str)
def test_the_layout_is_what_an_import_of_the_state_dict_finds(network):
    state = build_module(network, "relu").state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if "num_batches" not in name}
    structure = find_structure("here", shapes, "by_name")
    assert structure.gap is None
    assert structure.layout == lay_out_network(network)


@pytest.mark.parametrize("network", SMALL.values(), ids=str)
def test_a_vector_put_into_another_module_by_the_layout_is_the_same_function(network):
    module, layout = warm(network), lay_out_network(network)
    vector, images = read_vector(module, layout), torch.randn(3, *network.image_shape)
    other = build_module(network, "relu").eval()
    with torch.no_grad():
        wanted = module(images)
        torch.testing.assert_close(run_module(other, layout, vector, images), wanted)  # memory lies otherwise
        other.load_state_dict(layout.split(vector), strict=False)
        torch.testing.assert_close(other(images), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("network", SMALL.values(), ids=str)
def test_reordered_units_are_the_same_function(network):
    module, layout = warm(network), lay_out_network(network)
    vector, images = read_vector(module, layout), torch.randn(3, *network.image_shape)
    moved = permute_weights(layout, vector[None], draw_permutations(layout, 1, torch.Generator().manual_seed(0)))[0]
    assert not torch.equal(moved, vector)
    with torch.no_grad():
        torch.testing.assert_close(run_module(module, layout, moved, images), module(images), rtol=1e-4, atol=1e-5)


def test_running_a_vector_leaves_it_and_the_module_alone():
    module, layout = warm(SMALL[18]).train(), lay_out_network(SMALL[18])
    vector = read_vector(module, layout)
    kept = vector.clone()
    run_module(module, layout, vector, torch.randn(3, 1, 8, 8))
    assert torch.equal(vector, kept)
    assert torch.equal(read_vector(module, layout), kept)


def test_the_activation_is_the_members():
    layout, images = lay_out_network(SMALL[18]), torch.randn(3, 1, 8, 8)
    vector = read_vector(warm(SMALL[18]), layout)
    relu, tanh = (run_module(build_module(SMALL[18], name).eval(), layout, vector, images) for name in ("relu", "tanh"))
    assert not torch.allclose(relu, tanh)
