import math

import pytest

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.networks import build_layout
from weightspace.zoo.config import Choice, Draw, DrawnSeeds, Fixed
from weightspace.zoo.kinds import lay_out_network
from weightspace.zoo.members import choose_architecture, draw_members
from weightspace.zoo.presets import FAMILIES, IMAGES, RESNETS, build_images, build_preset, list_presets

MODEL_ZOOS = [
    *(f"{family}_{kind}" for family in FAMILIES for kind in ("seed", "hyp_fix", "hyp_rand")),
    *(f"{images}_resnet18_seed" for images in RESNETS),
]
PHASE = [name for name in list_presets() if "_phase_" in name]


def count_members(name):
    """Count without drawing: values of each factor, times seeds."""
    members = build_preset(name).members
    if isinstance(members, Draw):
        return members.count
    assert all(isinstance(factor, Fixed | Choice) for factor in members.factors.values())
    seeds = members.seeds.count if isinstance(members.seeds, DrawnSeeds) else len(members.seeds)
    return seeds * math.prod(len(getattr(factor, "values", [0])) for factor in members.factors.values())


def test_model_zoos_have_the_published_number_of_zoos_members_and_states():
    # Source of all three: README and abstract of arXiv 2209.14764. ResNets were published without epoch 0.
    assert len(MODEL_ZOOS) == 27
    counts = {name: count_members(name) for name in MODEL_ZOOS}
    assert sum(counts.values()) == 50_360
    states = {name: build_preset(name).epochs + (0 if "resnet" in name else 1) for name in MODEL_ZOOS}
    assert sum(counts[name] * states[name] for name in MODEL_ZOOS) == 2_585_360


@pytest.mark.parametrize(
    ("family", "count"),
    [
        ("mnist", 2560),
        ("fashion_mnist", 2560),
        ("svhn", 4320),
        ("usps", 2560),
        ("cifar10_s", 1280),
        ("cifar10_l", 1280),
        ("stl10_s", 2560),
        ("stl10_l", 2560),
    ],
)
def test_grids_have_the_published_number_of_members(family, count):
    assert count_members(f"{family}_hyp_fix") == count_members(f"{family}_hyp_rand") == count


def test_small_cnn_zoos_have_the_published_number_of_runs():
    assert sum(count_members(name) for name in list_presets() if name.endswith("_small_cnn")) == 120_000


def test_a_phase_zoo_has_the_published_number_of_members():
    assert sum(count_members(name) for name in PHASE if "cifar10_phase_resnet18" in name) == 192


def test_members_of_a_fixed_grid_share_seeds_and_of_a_random_one_do_not():
    fixed, random = (draw_members(build_preset(f"cifar10_s_hyp_{kind}").members) for kind in ("fix", "rand"))
    assert len(fixed) == len(random) == 1280
    assert sorted(fixed["seed"].unique()) == list(range(1, 11))
    assert random["seed"].nunique() > 1200
    assert random["seed"].between(0, 999_999).all()
    names = ["activation", "init", "optimizer", "lr", "weight_decay", "dropout"]
    assert (random.groupby(names)["seed"].count() == 10).all()


@pytest.mark.parametrize("name", [name for name in list_presets() if "_phase_" not in name])
def test_every_preset_can_be_drawn(name):
    config = build_preset(name)
    members = config.members
    small = members.model_copy(update={"count": 5}) if isinstance(members, Draw) else members
    table = draw_members(small)
    assert len(table) == (5 if isinstance(members, Draw) else members.max_members)


@pytest.mark.parametrize(
    ("family", "num_weights"), [("mnist", 2464), ("svhn", 2464), ("cifar10_s", 2864), ("cifar10_l", 10_853)]
)
def test_a_familys_images_fit_its_network(family, num_weights):
    images = build_images(family)
    shape = (images.channels, images.side, images.side)
    architecture = choose_architecture(build_preset(f"{family}_seed").architecture, shape, images.classes)
    layout: Layout = build_layout(architecture)
    assert architecture.image_shape == shape
    assert layout.num_weights == num_weights


@pytest.mark.parametrize("name", list(IMAGES))
def test_every_image_set_is_valid(name):
    assert build_images(name).split.kind == "official"


def test_unknown_preset_is_named():
    with pytest.raises(BadInput, match="'mnist_sed', wanted"):
        build_preset("mnist_sed")


@pytest.mark.parametrize(
    ("images", "side", "num_classes", "count"),
    # Source: the definitions of arXiv 2209.14764's networks, counted.
    [("cifar10", 32, 10, 11_173_962), ("cifar100", 32, 100, 11_220_132), ("tiny_imagenet", 64, 200, 11_271_432)],
)
def test_a_resnet_zoo_has_the_published_number_of_weights(images, side, num_classes, count):
    config = build_preset(f"{images}_resnet18_seed")
    network = choose_architecture(config.architecture, (3, side, side), num_classes)
    layout = lay_out_network(network)
    assert sum(place.size for place in layout.places if place.trained) == count
    assert len(draw_members(config.members, network)) == 1000


@pytest.mark.parametrize("name", ["cifar10_resnet18_seed", *PHASE[:8], "cifar10_phase_resnet50_w64"])
def test_a_shard_of_residual_networks_takes_four_gigabytes_or_is_one_network(name):
    config = build_preset(name)
    network = choose_architecture(config.architecture, (3, 32, 32), 10)
    size = 4 * lay_out_network(network).num_weights * (config.epochs + 1)
    assert config.shard_size == 1 or config.shard_size * size < 4.4e9
