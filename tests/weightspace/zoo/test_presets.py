import math
from pathlib import Path

import numpy as np
import pytest

from weightspace.config import BadInput
from weightspace.images import build
from weightspace.images.config import FixedStatistics, FractionSplit, OfficialSplit
from weightspace.images.published import PUBLISHED
from weightspace.images.raw import Part, RawImages
from weightspace.networks import Architecture, build_layout
from weightspace.zoo.config import Choice, Draw, DrawnSeeds, Fixed
from weightspace.zoo.kinds import lay_out_network
from weightspace.zoo.members import choose_architecture, draw_members, initialize_members
from weightspace.zoo.presets import (
    FAMILIES,
    IMAGES,
    RESNETS,
    SMALL_CNN_IMAGES,
    build_images,
    build_preset,
    list_presets,
)

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


@pytest.mark.parametrize(
    ("images", "epochs", "augmentation"),
    # Source: train_zoo_*_wide.py of ModelZoos/PhaseTransitionModelZoo.
    [
        ("svhn", 150, "crop_rotate"),
        ("cifar10", 150, "crop_flip_rotate"),
        ("cifar100", 150, "crop_flip_rotate"),
        ("tiny_imagenet", 100, "crop_flip_rotate"),
    ],
)
@pytest.mark.parametrize("depth", [18, 50])
def test_a_phase_zoo_is_trained_as_its_scripts_say(images, epochs, augmentation, depth):
    config = build_preset(f"{images}_phase_resnet{depth}_w4")
    table = draw_members(config.members)
    assert config.epochs == epochs
    assert set(table["augmentation"]) == {augmentation}
    assert set(table["init"]) == {"kaiming_uniform"}
    assert sorted(table["seed"].unique()) == [0, 1, 2]
    assert sorted(table["batch_size"].unique()) == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert (set(table["lr"]), set(table["weight_decay"]), set(table["optimizer"])) == ({0.1}, {5e-4}, {"sgd"})


@pytest.mark.parametrize("name", [name for name in PHASE if "cifar10_" in name])
def test_a_shard_of_a_phase_zoo_has_no_more_than_can_train_side_by_side(name):
    """Members that differ in batch size do not: a shard of more would be filled up with copies for each size."""
    config = build_preset(name)
    alike = draw_members(config.members).groupby("batch_size")["seed"].count()
    assert config.shard_size <= alike.max()


def test_no_member_of_a_small_cnn_zoo_starts_outside_the_published_deviations():
    # Source: init_std of google-research's ALL_HPARAM_RANGES; the others follow from the numbers of inputs and outputs.
    config = build_preset("mnist_small_cnn")
    members = draw_members(config.members.model_copy(update={"count": 50}))
    network, _ = choose_network("mnist_small_cnn")
    weights = build_layout(network).split(initialize_members(network, members))
    for name, tensor in weights.items():
        if name.endswith("weight"):
            assert 1e-3 < tensor.std() < 0.6


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


def choose_network(name):
    """Choose the network of a preset, for the images it names."""
    config = build_preset(name)
    images = build_images(config.images)
    shape = (images.channels, images.side, images.side)
    return choose_architecture(config.architecture, shape, images.classes), shape


@pytest.mark.parametrize("name", list_presets())
def test_a_presets_images_can_be_built_and_have_the_shape_of_its_networks_input(name):
    network, shape = choose_network(name)
    assert network.image_shape == shape


@pytest.mark.parametrize(
    ("name", "num_weights"),
    # Source: the published definitions, counted; 4,970 is the width of the Small CNN Zoo's matrices.
    [
        ("mnist_seed", 2464),
        ("svhn_seed", 2464),
        ("cifar10_s_seed", 2864),
        ("cifar10_l_seed", 10_853),
        *((f"{images}_small_cnn", 4970) for images in SMALL_CNN_IMAGES),
    ],
)
def test_on_its_own_images_a_preset_has_the_published_number_of_weights(name, num_weights):
    network, _ = choose_network(name)
    assert isinstance(network, Architecture)
    assert build_layout(network).num_weights == num_weights


HALF, DIGITS = (0.5, 0.5), (0.1307, 0.3081)
CIFAR10 = ((0.49137255, 0.24705882), (0.48235294, 0.24352941), (0.44666667, 0.26156863))
CIFAR100 = ((0.5071, 0.2675), (0.4867, 0.2565), (0.4408, 0.2761))
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
SVHN = ((0.4377, 0.198), (0.4438, 0.201), (0.4728, 0.197))


@pytest.mark.parametrize(
    ("name", "scales"),
    # Source: the scripts of ModelZooDataset, of google-research's dnn_predict_accuracy and of PhaseTransitionModelZoo.
    [
        ("mnist_seed", [DIGITS]),
        ("usps_hyp_rand", [DIGITS]),
        ("fashion_mnist_seed", [HALF]),
        ("svhn_seed", [HALF]),
        *((f"{images}_{size}_seed", [HALF] * 3) for images in ("cifar10", "stl10") for size in ("s", "l")),
        *((f"{images}_small_cnn", [HALF]) for images in SMALL_CNN_IMAGES),
        ("cifar10_resnet18_seed", CIFAR10),
        ("cifar100_resnet18_seed", CIFAR100),
        ("tiny_imagenet_resnet18_seed", IMAGENET),
        ("svhn_phase_resnet18_w64", SVHN),
        ("cifar10_phase_resnet50_w2", CIFAR10),
        ("cifar100_phase_resnet18_w8", CIFAR100),
        ("tiny_imagenet_phase_resnet18_w64", IMAGENET),
    ],
)
def test_a_zoos_images_are_scaled_as_published(name, scales):
    normalize = build_images(build_preset(name).images).normalize
    assert isinstance(normalize, FixedStatistics)
    found = zip(normalize.mean, normalize.std, strict=True)
    assert [pair == pytest.approx(wanted) for pair, wanted in zip(found, scales, strict=True)] == [True] * len(scales)


@pytest.mark.parametrize(
    ("name", "source", "side", "split"),
    # Source: as above. Where published zoos have no validation images, 1,000 of the training images are.
    [
        ("usps_seed", "usps", 28, (6000, 1291, 2007)),
        ("svhn_hyp_fix", "svhn", 28, (60_000, 13_257, 26_032)),
        ("svhn_small_cnn", "svhn", 32, (72_257, 1000, 26_032)),
        ("svhn_phase_resnet18_w2", "svhn", 32, (72_257, 1000, 26_032)),
        ("cifar10_s_seed", "cifar10", 28, (42_000, 8000, 10_000)),
        ("cifar10_small_cnn", "cifar10", 32, (49_000, 1000, 10_000)),
        ("cifar10_resnet18_seed", "cifar10", 32, (40_000, 10_000, 10_000)),
        ("cifar10_phase_resnet18_w2", "cifar10", 32, (49_000, 1000, 10_000)),
        ("cifar100_resnet18_seed", "cifar100", 32, (40_000, 10_000, 10_000)),
        ("tiny_imagenet_resnet18_seed", "tiny_imagenet", 64, (99_000, 1000, 10_000)),
        ("mnist_small_cnn", "idx", 28, (59_000, 1000, 10_000)),
    ],
)
def test_a_zoos_images_are_of_the_published_size_and_split(name, source, side, split):
    images = build_images(build_preset(name).images)
    assert isinstance(images.split, OfficialSplit)
    assert (images.source.kind, images.side) == (source, side)
    assert (images.split.train, images.split.val, images.split.test) == split


OFFICIAL = {
    "idx": (60_000, 10_000),
    "usps": (7291, 2007),
    "svhn": (73_257, 26_032),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "stl10": (5000, 8000),
    "tiny_imagenet": (100_000, 10_000),
}
"""Training and test images, as each set's own page says; of EuroSAT there are 27,000 in all."""


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_set_uses_all_published_images(name):
    config = build_images(name)
    split = config.split
    assert not isinstance(split, FractionSplit)
    if config.source.kind == "eurosat":
        assert split.train + split.val + split.test == 27_000
    else:
        assert (split.train + split.val, split.test) == OFFICIAL[config.source.kind]


AS_PUBLISHED = {
    "idx": (1, 28, 28),
    "usps": (1, 16, 16),
    "svhn": (3, 32, 32),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "stl10": (3, 96, 96),
    "tiny_imagenet": (3, 64, 64),
    "eurosat": (3, 64, 64),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_set_is_made_of_the_published_pixels(name, monkeypatch):
    config = build_images(name)
    count = config.classes
    pixels = np.full((4 * count, *AS_PUBLISHED[config.source.kind]), 255, np.uint8)
    num_train = None if config.source.kind == "eurosat" else 3 * count
    raw = RawImages(Part(pixels, np.arange(4 * count) % count), num_train, {})
    monkeypatch.setattr(build, "read_source", lambda source, root: raw)
    few = config.split.model_copy(update={"train": count, "val": count, "test": count})
    image_set = build.build_image_set(config.model_copy(update={"split": few}), Path())
    assert image_set.shape == (config.channels, config.side, config.side)
    assert (image_set.images == 255).all()


def test_every_set_that_can_be_downloaded_has_a_preparation():
    assert {said.source for said in IMAGES.values()} == set(PUBLISHED)


def test_images_that_no_zoo_saw_are_named():
    with pytest.raises(BadInput, match="images: got 'cifar11', wanted one of mnist, "):
        build_images("cifar11")


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
