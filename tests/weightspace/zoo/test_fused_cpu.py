from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from tests.weightspace.zoo.engines import train_members_fused, train_members_torch
from tests.weightspace.zoo.oracle import train_alone
from weightspace.config import BadInput
from weightspace.images.build import build_image_set
from weightspace.images.config import ImagesConfig
from weightspace.images.image_set import PreparedImages, prepare_images
from weightspace.networks import (
    Architecture,
    Block,
    build_cnn_l,
    build_cnn_s,
    build_layout,
    build_mlp,
    build_small_cnn,
)
from weightspace.zoo import fused_cpu
from weightspace.zoo.members import INITS, initialize_members
from weightspace.zoo.torch_engine import select_members
from weightspace.zoo.training import PROPERTIES, Recipe

CPU = torch.device("cpu")
ACTIVATIONS = ["tanh", "relu", "sigmoid", "gelu", "leaky_relu", "silu"]
OPTIMIZERS = ["sgd", "adam", "adamw", "rmsprop"]


def make_recipe(members, **changes):
    plain = {
        "activation": "tanh",
        "optimizer": "adam",
        "batch_size": 7,
        "seed": np.arange(5, 5 + members),
        "lr": np.geomspace(1e-3, 1e-2, members),
        "weight_decay": np.linspace(0, 1e-2, members),
        "dropout": np.linspace(0, 0.5, members),
        "num_train": np.resize([50, 20, 50, 33], members),
    }
    return Recipe(**{**plain, **changes})


def start(architecture, members):
    generator = torch.Generator().manual_seed(1)
    return 0.3 * torch.randn(members, build_layout(architecture).num_weights, generator=generator)


def make_images(architecture, count=60):
    """Blurred blobs on a constant background, normalised: maxima are tied in much of the picture, as in MNIST."""
    generator = torch.Generator().manual_seed(2)
    channels, height, width = architecture.image_shape
    core = torch.rand(count, channels, height // 4, width // 4, generator=generator)
    core = F.interpolate((core - 0.3).clamp(min=0), scale_factor=2, mode="bilinear")
    rows, columns = height - core.shape[2], width - core.shape[3]
    images = F.pad(core, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    images = (images - images.mean()) / images.std()
    labels = torch.randint(architecture.num_classes, (count,), generator=generator)
    return PreparedImages(images[:40], labels[:40], images[40:50], labels[40:50], images[50:], labels[50:])


def measure_errors(architecture, recipe, initial, images):
    """Distance from a float64 run over the size of its update, of the fused engine and of torch in float32."""
    fused = train_members_fused(architecture, recipe, initial, images, 1, CPU).weights[:, 1]
    errors = []
    for member in range(len(initial)):
        before, exact = train_alone(architecture, recipe, member, initial, images, 1, torch.float64)
        plain = train_alone(architecture, recipe, member, initial.clone(), images, 1)[1]
        update = (exact - before).norm()
        errors.append([((w - exact).norm() / update).item() for w in (torch.from_numpy(fused[member]), plain)])
    return np.array(errors).T


def assert_as_exact_as_torch(architecture, activation, optimizer, images):
    """Compare over every init, four steps each, with and without dropout.

    The median ratio over members is 1.00 as measured for CNN-s and CNN-l; single members are off by more either way
    where rounding decides about a maximum, or about the sign of a gradient that is nearly zero. With AdamW and tanh
    that is 5 members of 120, by up to 0.067, the same ones by the same amount in torch; which ones differs from one
    processor to another.
    """
    table = pd.DataFrame({"seed": np.arange(12), "init": np.resize(INITS, 12)})
    recipe = make_recipe(
        12,
        activation=activation,
        optimizer=optimizer,
        lr=np.full(12, 1e-3),
        dropout=np.repeat([0, 0.2], 6),
        num_train=np.full(12, 25),
    )
    fused, plain = measure_errors(architecture, recipe, initialize_members(architecture, table), images)
    finite = np.isfinite(plain)
    assert (np.isfinite(fused) == finite).all()
    assert np.median(fused[finite] / plain[finite]) < 1.25
    assert (fused[finite] < np.maximum(1e-2, 1.25 * plain[finite])).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_as_close_to_float64_as_torch(tiny_architecture, activation, optimizer):
    assert_as_exact_as_torch(tiny_architecture, activation, optimizer, make_images(tiny_architecture))


def build_wide_mlp():
    return build_mlp((1, 16, 16), (24, 12), 10)


MISSED = {
    (build_cnn_l, "tanh", "rmsprop"): "a member is off by 0.086: two values that are pooled lie 9e-8 apart in float64",
    (build_wide_mlp, "silu", "rmsprop"): "median ratio 1.2503: the first steps blow rounding up, torch's as well",
}
"""Combinations that miss the bound on a processor with AVX2; rounding decides, so on another they may not."""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("build", [build_cnn_s, build_cnn_l, build_small_cnn, build_wide_mlp])
def test_every_combination_is_as_close_to_float64_as_torch(request, build, activation, optimizer):
    missed = MISSED.get((build, activation, optimizer))
    if missed:
        request.applymarker(pytest.mark.xfail(reason=missed))
    assert_as_exact_as_torch(build(), activation, optimizer, make_images(build()))


@pytest.mark.parametrize("build", [build_cnn_s, build_cnn_l, build_small_cnn])
def test_published_networks_are_as_close_to_float64_as_torch(build):
    # tanh and Adam from U(0, 1): what a tanh that does not saturate exactly gets wrong
    assert_as_exact_as_torch(build(), "tanh", "adam", make_images(build()))


def test_stays_close_to_float64_when_units_saturate():
    architecture = build_cnn_s()
    table = pd.DataFrame({"seed": np.arange(8), "init": "uniform"})
    recipe = make_recipe(8, lr=np.full(8, 1e-2), dropout=np.zeros(8), num_train=np.full(8, 40), batch_size=2)
    initial, images = initialize_members(architecture, table), make_images(architecture)
    fused, plain = measure_errors(architecture, recipe, initial, images)
    assert np.median(fused) < 1.25 * np.median(plain)


MLP = build_mlp((1, 5, 7), (13, 9), 3)
TETRIS = build_mlp((1, 4, 4), (5,), 4, bias=False)
STRIDED = Architecture(
    name="strided",
    channels=2,
    height=17,
    width=16,
    blocks=(
        Block(kind="conv", features=5, kernel=3, stride=2, pool=True, dropout=True),
        Block(kind="conv", features=7, kernel=2, bias=False),
        Block(kind="linear", features=6, average=True, dropout=True),
        Block(kind="linear", features=3, activate=False),
    ),
)
SPARSE = Architecture(
    name="sparse",
    channels=1,
    height=20,
    width=24,
    blocks=(
        Block(kind="conv", features=3, kernel=1, stride=2, pool=True),
        Block(kind="conv", features=9, kernel=2, stride=3),
        Block(kind="linear", features=3, average=True, activate=False),
    ),
)
ODD = Architecture(
    name="odd",
    channels=2,
    height=13,
    width=16,
    blocks=(
        Block(kind="conv", features=7, kernel=6, pool=True),
        Block(kind="conv", features=2, kernel=1, activate=False, dropout=True),
        Block(kind="conv", features=5, kernel=2, pool=True, activate=False),
        Block(kind="linear", features=17, activate=False, dropout=True),
    ),
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_schedules_and_wrong_labels_are_as_close_to_float64_as_torch(tiny_architecture, optimizer):
    schedule, noise = np.array(["constant", "one_cycle", "cosine"]), np.array([0.5, 0.0, 0.2])
    recipe = make_recipe(3, optimizer=optimizer, schedule=schedule, label_noise=noise, num_train=np.array([40, 40, 25]))
    images, initial = make_images(tiny_architecture), start(tiny_architecture, 3)
    fused, plain = measure_errors(tiny_architecture, recipe, initial, images)
    assert (fused < 1.5 * plain + 1e-5).all()


@pytest.mark.parametrize(
    "architecture", [MLP, TETRIS, ODD, STRIDED, SPARSE], ids=lambda architecture: architecture.name
)
def test_trains_any_chain_of_blocks(architecture):
    images, initial = make_images(architecture), start(architecture, 3)
    recipe = make_recipe(3, optimizer="sgd", activation="sigmoid", num_train=np.array([40, 9, 40]))
    fused, plain = measure_errors(architecture, recipe, initial, images)
    assert (fused < 1.5 * plain + 1e-6).all()


def test_equals_the_torch_engine_in_all_it_returns(tiny_architecture, tiny_images):
    schedule, noise = np.resize(["one_cycle", "cosine", "constant"], 5), np.linspace(0, 0.4, 5)
    recipe, initial = make_recipe(5, schedule=schedule, label_noise=noise), start(tiny_architecture, 5)
    fused = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    plain = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    np.testing.assert_array_equal(fused.weights[:, 0], initial.numpy())
    np.testing.assert_allclose(fused.weights, plain.weights, atol=1e-4)
    for name in PROPERTIES:
        np.testing.assert_allclose(fused.properties[name], plain.properties[name], atol=1e-4)


DIGITS = ImagesConfig.model_validate(
    {
        "source": {"kind": "digits"},
        "classes": 10,
        "side": 8,
        "fit": "resize",
        "channels": 1,
        "split": {"kind": "counts", "train": 200, "val": 100, "test": 300, "seed": 0},
        "normalize": {"kind": "train"},
    }
)


def test_learning_curves_over_a_whole_run_are_those_of_the_torch_engine(tiny_architecture):
    """Compare means over 24 members that differ in seed, after each of 20 epochs.

    They may differ by a tenth of their standard error, which the members' own spread gives: what seeds do hides it. The
    same members at a rate that is a tenth higher are off by more than a whole one. Measured: 0.0006 and 1.9 to 3.1.
    """
    members, epochs = 24, 20
    last = tiny_architecture.blocks[-1].model_copy(update={"features": 10})
    architecture = tiny_architecture.model_copy(update={"blocks": (*tiny_architecture.blocks[:-1], last)})
    images = prepare_images(build_image_set(DIGITS, Path.cwd()), CPU)
    table = pd.DataFrame({"seed": np.arange(members), "init": "kaiming_uniform"})
    initial = initialize_members(architecture, table)
    same = {"batch_size": 20, "weight_decay": np.zeros(members), "dropout": np.full(members, 0.1)}
    same |= {"seed": np.arange(members), "num_train": np.full(members, 200)}
    recipe = make_recipe(members, lr=np.full(members, 0.01), **same)
    fused = train_members_fused(architecture, recipe, initial, images, epochs, CPU)
    plain = train_members_torch(architecture, recipe, initial, images, epochs, CPU)
    faster = make_recipe(members, lr=np.full(members, 0.011), **same)
    other = train_members_fused(architecture, faster, initial, images, epochs, CPU)
    for name in PROPERTIES:
        curve, wanted, off = (run.properties[name].astype(float) for run in (fused, plain, other))
        noise = wanted.std(axis=0, ddof=1) / members**0.5
        assert (np.abs(curve.mean(axis=0) - wanted.mean(axis=0)) <= 0.1 * noise).all()
        assert (np.abs(off.mean(axis=0) - wanted.mean(axis=0)) > noise).any()


def test_a_member_alone_has_the_same_bits_as_among_others(tiny_architecture, tiny_images):
    members = 37
    initial = start(tiny_architecture, members)
    initial[3] = 1e30  # runs into infinities on its first image
    recipe = make_recipe(members, activation="relu", num_train=np.resize([50, 20, 49, 33, 7], members))
    together = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 3, CPU)
    for member in (0, 1, 2, 3, 18, 36):
        rows = np.array([member])
        alone = train_members_fused(tiny_architecture, select_members(recipe, rows), initial[rows], tiny_images, 3, CPU)
        assert alone.weights[0].tobytes() == together.weights[member].tobytes()
        for name in PROPERTIES:
            assert alone.properties[name][0].tobytes() == together.properties[name][member].tobytes()


def test_a_member_alone_has_the_same_bits_as_among_a_thousand(tiny_architecture, tiny_images):
    members = 1000
    initial = start(tiny_architecture, members)
    recipe = make_recipe(
        members,
        optimizer=np.resize(OPTIMIZERS, members),
        batch_size=np.resize([7, 16, 50], members),
        num_train=np.resize([50, 20, 49, 33, 7], members),
    )
    together = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 1, CPU)
    for member in (0, 1, 15, 16, 499, 777, 998, 999):
        rows = np.array([member])
        alone = train_members_fused(tiny_architecture, select_members(recipe, rows), initial[rows], tiny_images, 1, CPU)
        assert alone.weights[0].tobytes() == together.weights[member].tobytes()
        for name in PROPERTIES:
            assert alone.properties[name][0].tobytes() == together.properties[name][member].tobytes()


def test_threads_change_nothing(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(40), start(tiny_architecture, 40)
    one = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    finally:
        torch.set_num_threads(before)
    assert one.weights.tobytes() == two.weights.tobytes()


def test_a_diverged_member_goes_on_as_not_a_number(tiny_architecture, tiny_images):
    recipe = make_recipe(2, optimizer="sgd", activation="relu", lr=np.array([1e30, 1e-3]))
    got = train_members_fused(tiny_architecture, recipe, start(tiny_architecture, 2), tiny_images, 2, CPU)
    assert not np.isfinite(got.weights[0, 1:]).all()
    assert np.isnan(got.properties["test_loss"][0, 1:]).all()
    assert np.isnan(got.properties["test_accuracy"][0, 1:]).all()
    assert np.isfinite(got.weights[1]).all()


def test_hands_over_each_member_after_each_epoch_in_order(tiny_architecture, tiny_images):
    done = {member: [] for member in range(20)}

    def keep(members, epoch, weights, properties):
        assert weights.shape == (len(members), build_layout(tiny_architecture).num_weights)
        assert {len(values) for values in properties.values()} == {len(members)}
        for member in members.tolist():
            done[member].append(epoch)

    fused_cpu.train_members_fused(
        tiny_architecture, make_recipe(20), start(tiny_architecture, 20), tiny_images, 3, CPU, keep
    )
    assert all(epochs == [0, 1, 2, 3] for epochs in done.values())


def test_an_error_in_the_callback_ends_training(tiny_architecture, tiny_images):
    done = []

    def stop(members, epoch, weights, properties):
        done.append(epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fused_cpu.train_members_fused(
            tiny_architecture, make_recipe(40), start(tiny_architecture, 40), tiny_images, 50, CPU, stop
        )
    assert done == [0]


def test_refuses_another_device(tiny_architecture, tiny_images):
    with pytest.raises(BadInput, match="wanted cpu"):
        train_members_fused(
            tiny_architecture, make_recipe(1), start(tiny_architecture, 1), tiny_images, 1, torch.device("meta")
        )


def test_members_with_other_optimizers_and_batch_sizes_may_share_a_call(tiny_architecture, tiny_images):
    members = 24
    optimizer, batch_size = np.resize(OPTIMIZERS, members), np.resize([7, 7, 4, 16, 50], members)
    initial = start(tiny_architecture, members)
    recipe = make_recipe(members, optimizer=optimizer, batch_size=batch_size)
    mixed = train_members_fused(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    for kind, size in {("sgd", 7), ("adam", 4), ("adamw", 50), ("rmsprop", 16)}:
        rows = np.flatnonzero((optimizer == kind) & (batch_size == size))
        part = select_members(make_recipe(members, optimizer=kind, batch_size=size), rows)
        alone = train_members_fused(tiny_architecture, part, initial[rows], tiny_images, 2, CPU)
        assert alone.weights.tobytes() == mixed.weights[rows].tobytes()


def test_refuses_an_activation_without_a_kernel(tiny_architecture, tiny_images):
    recipe = make_recipe(1, activation="softsign")
    with pytest.raises(BadInput, match=r"'softsign', wanted one of tanh, relu, sigmoid, leaky_relu, silu, gelu$"):
        train_members_fused(tiny_architecture, recipe, start(tiny_architecture, 1), tiny_images, 1, CPU)


def test_refuses_augmentation_and_names_the_engine_that_can(tiny_architecture, tiny_images):
    recipe = make_recipe(1, augmentation="crop_flip")
    with pytest.raises(BadInput, match=r"crop_flip.*torch engine"):
        train_members_fused(tiny_architecture, recipe, start(tiny_architecture, 1), tiny_images, 1, CPU)
