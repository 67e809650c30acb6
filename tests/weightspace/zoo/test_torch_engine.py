import numpy as np
import pytest
import torch

from tests.weightspace.zoo.engines import train_members_torch
from tests.weightspace.zoo.oracle import build_optimizer, train_alone
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.zoo.evaluate import evaluate_members
from weightspace.zoo.torch_engine import select_members
from weightspace.zoo.training import Recipe, draw_keep, draw_labels, draw_subset, find_momentum, scale_rate

CPU = torch.device("cpu")


def make_recipe(members, **changes):
    plain = {
        "activation": "tanh",
        "optimizer": "adam",
        "batch_size": 7,
        "seed": np.arange(5, 5 + members),
        "lr": np.geomspace(1e-3, 1e-2, members),
        "weight_decay": np.linspace(0, 1e-2, members),
        "dropout": np.linspace(0, 0.5, members),
        "num_train": np.array([50, 20, 50, 33])[:members],
    }
    return Recipe(**{**plain, **changes})


def start(architecture, members):
    generator = torch.Generator().manual_seed(1)
    return 0.3 * torch.randn(members, build_layout(architecture).num_weights, generator=generator)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_equals_one_module_and_torch_optim(tiny_architecture, tiny_images, optimizer, activation):
    recipe = make_recipe(3, optimizer=optimizer, activation=activation)
    initial = start(tiny_architecture, 3)
    got = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    for member in range(3):
        exact = train_alone(tiny_architecture, recipe, member, initial, tiny_images, 2, torch.float64)
        update = (exact[-1] - exact[0]).norm()
        assert (torch.from_numpy(got.weights[member, -1]) - exact[-1]).norm() < 1e-3 * update


def test_member_alone_equals_member_among_others(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(4), start(tiny_architecture, 4)
    together = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    alone = train_members_torch(
        tiny_architecture, select_members(recipe, np.array([1])), initial[1:2], tiny_images, 2, CPU
    )
    np.testing.assert_allclose(alone.weights[0], together.weights[1], atol=1e-5)


def test_epoch_zero_is_the_initialisation(tiny_architecture, tiny_images):
    initial = start(tiny_architecture, 2)
    got = train_members_torch(tiny_architecture, make_recipe(2), initial, tiny_images, 1, CPU)
    np.testing.assert_array_equal(got.weights[:, 0], initial.numpy())


def test_train_properties_count_only_the_members_own_images(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(2), start(tiny_architecture, 2)
    got = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 1, CPU)
    chosen = draw_subset(6, 20, 50)
    loss, accuracy = evaluate_members(
        tiny_architecture,
        torch.from_numpy(got.weights[1:, 1]),
        "tanh",
        tiny_images.train[chosen],
        tiny_images.train_labels[chosen],
    )
    assert got.properties["train_loss"][1, 1] == pytest.approx(loss.item(), rel=1e-5)
    assert got.properties["train_accuracy"][1, 1] == pytest.approx(accuracy.item(), rel=1e-5)


def test_training_learns(tiny_architecture, tiny_images):
    recipe = make_recipe(2, lr=np.array([1e-2, 1e-2]), num_train=np.array([50, 50]))
    got = train_members_torch(tiny_architecture, recipe, start(tiny_architecture, 2), tiny_images, 15, CPU)
    assert (got.properties["test_accuracy"][:, -1] > 0.8).all()


def test_diverged_member_disturbs_nobody(tiny_architecture, tiny_images):
    initial = start(tiny_architecture, 2)
    recipe = make_recipe(2, optimizer="sgd", activation="relu", lr=np.array([1e30, 1e-3]))
    got = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    other = make_recipe(2, optimizer="sgd", activation="relu", lr=np.array([1e-3, 1e-3]))
    expected = train_members_torch(tiny_architecture, other, initial, tiny_images, 2, CPU)
    assert not np.isfinite(got.weights[0, -1]).all()
    np.testing.assert_allclose(got.weights[1], expected.weights[1], atol=1e-6)


def test_dropout_rate_is_the_share_of_dropped_units():
    units = np.arange(100_000, dtype=np.uint64)
    for rate in (0.0, 0.3, 0.5):
        keep = draw_keep(np.array(3, np.uint64), 11, np.array(2, np.uint64), units, np.array(rate))
        assert keep.mean() == pytest.approx(1 - rate, abs=0.005)


def test_cnn_s_accepts_a_shared_and_a_private_batch(tiny_images):
    architecture = build_cnn_s()
    tensors = build_layout(architecture).split(start(architecture, 3))
    batch = torch.randn(4, 1, 28, 28)
    shared = run_networks(architecture, tensors, batch, "relu")
    private = run_networks(architecture, tensors, batch.expand(3, -1, -1, -1, -1), "relu")
    torch.testing.assert_close(shared, private)


def build_torch_schedule(name, optimizer, total):
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=total)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)


@pytest.mark.parametrize("total", [2, 7, 50])
@pytest.mark.parametrize("name", ["one_cycle", "cosine"])
def test_schedules_are_torchs(name, total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3, momentum=0.9)
    scheduler = build_torch_schedule(name, optimizer, total)
    expected = []
    for step in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    got = 0.3 * scale_rate(name, np.arange(total), np.array(total))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("total", [2, 7, 50])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_momentum_of_one_cycle_is_torchs(name, total):
    optimizer = build_optimizer(name, [torch.zeros(1, requires_grad=True)], 0.3, 0.0)
    scheduler = build_torch_schedule("one_cycle", optimizer, total)
    expected = []
    for step in range(total):
        group = optimizer.param_groups[0]
        expected.append(group["betas"][0] if "betas" in group else group["momentum"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    got = find_momentum(name, "one_cycle", np.arange(total), np.array(total))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_label_noise_makes_that_share_of_the_used_labels_wrong():
    labels, subset = np.arange(1000) % 10, np.arange(200, 700)
    noisy = draw_labels(3, labels, subset, 0.3, 10)
    wrong = np.flatnonzero(noisy != labels)
    assert len(wrong) == 150
    assert set(wrong) <= set(subset)
    assert len(np.unique((noisy - labels)[wrong] % 10)) == 9


def test_augmented_members_are_the_same_alone(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(4, augmentation="crop_flip_rotate"), start(tiny_architecture, 4)
    together = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    alone = train_members_torch(
        tiny_architecture, select_members(recipe, np.array([1])), initial[1:2], tiny_images, 2, CPU
    )
    np.testing.assert_allclose(alone.weights[0], together.weights[1], atol=1e-5)
