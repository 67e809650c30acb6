"""Loss and accuracy on training images that come from the training pass itself."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from tests.weightspace.zoo.engines import train_members_fused, train_members_torch
from tests.weightspace.zoo.oracle import train_alone
from weightspace.networks import build_layout
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import build_module, lay_out_network
from weightspace.zoo.members import initialize_members
from weightspace.zoo.modules import name_tensors
from weightspace.zoo.presets import build_preset
from weightspace.zoo.residual import describe_residual
from weightspace.zoo.torch_engine import select_members
from weightspace.zoo.train import train_table
from weightspace.zoo.training import PROPERTIES, Recipe

CPU, MEMBERS, EPOCHS = torch.device("cpu"), 5, 3
TRAIN = ("train_loss", "train_accuracy")
ENGINES = pytest.mark.parametrize("engine", [train_members_torch, train_members_fused], ids=["torch", "fused_cpu"])


def make_recipe(**changes):
    """Members that differ in all that training images are seen with: dropout, wrong labels, how many there are."""
    plain = {
        "activation": "tanh",
        "optimizer": "adam",
        "batch_size": 7,
        "seed": np.arange(5, 5 + MEMBERS),
        "lr": np.geomspace(1e-3, 1e-2, MEMBERS),
        "weight_decay": np.zeros(MEMBERS),
        "dropout": np.linspace(0, 0.5, MEMBERS),
        "num_train": np.array([50, 20, 50, 33, 7]),
        "label_noise": np.linspace(0, 0.4, MEMBERS),
        "train_metrics": "during",
    }
    return Recipe(**{**plain, **changes})


def start(architecture):
    generator = torch.Generator().manual_seed(1)
    return 0.3 * torch.randn(MEMBERS, build_layout(architecture).num_weights, generator=generator)


@ENGINES
def test_during_is_the_mean_over_batches_before_their_steps(tiny_architecture, tiny_images, engine):
    recipe, initial = make_recipe(), start(tiny_architecture)
    got = engine(tiny_architecture, recipe, initial, tiny_images, EPOCHS, CPU)
    for member in range(MEMBERS):
        during = []
        train_alone(tiny_architecture, recipe, member, initial, tiny_images, EPOCHS, torch.float64, during)
        wanted = np.array(during).T
        np.testing.assert_allclose(got.properties["train_loss"][member, 1:], wanted[0], rtol=1e-4)
        np.testing.assert_allclose(got.properties["train_accuracy"][member, 1:], wanted[1], rtol=1e-6)


@ENGINES
def test_nothing_else_depends_on_where_train_metrics_come_from(tiny_architecture, tiny_images, engine):
    during, after = (
        engine(tiny_architecture, make_recipe(train_metrics=when), start(tiny_architecture), tiny_images, EPOCHS, CPU)
        for when in ("during", "after")
    )
    assert during.weights.tobytes() == after.weights.tobytes()
    for name in PROPERTIES:
        assert during.properties[name][:, 0].tobytes() == after.properties[name][:, 0].tobytes()
        same = during.properties[name].tobytes() == after.properties[name].tobytes()
        assert same == (name not in TRAIN)


def test_a_member_alone_has_the_same_bits_as_among_others(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(activation="relu"), start(tiny_architecture)
    initial[3] = 1e30  # runs into infinities on its first image
    together = train_members_fused(tiny_architecture, recipe, initial, tiny_images, EPOCHS, CPU)
    assert np.isnan([together.properties[name][3] for name in TRAIN]).all()
    for member in range(MEMBERS):
        rows = np.array([member])
        alone = train_members_fused(
            tiny_architecture, select_members(recipe, rows), initial[rows], tiny_images, EPOCHS, CPU
        )
        for name in TRAIN:
            assert alone.properties[name][0].tobytes() == together.properties[name][member].tobytes()


@pytest.mark.parametrize("together", [1, 3])
def test_a_residual_network_is_measured_as_its_norms_see_batches(tiny_images, together):
    network = describe_residual(18, 2, (1, 8, 8), 3)
    table = pd.DataFrame(
        {
            "seed": np.arange(3),
            "activation": "relu",
            "init": "kaiming_normal",
            "optimizer": "sgd",
            "lr": 1e-2,
            "weight_decay": 0.0,
            "dropout": 0.0,
            "batch_size": len(tiny_images.train),
            "train_fraction": 1.0,
        }
    )
    initial = initialize_members(network, table)
    got = train_table(network, table, initial, tiny_images, 1, "torch", CPU, together=together, train_metrics="during")
    module = build_module(network, "relu").train()
    for member in range(3):
        module.load_state_dict(name_tensors(module, lay_out_network(network), initial[member]), strict=False)
        logits = module(tiny_images.train)
        loss = torch.nn.functional.cross_entropy(logits, tiny_images.train_labels)
        right = (logits.argmax(1) == tiny_images.train_labels).float().mean()
        np.testing.assert_allclose(got.properties["train_loss"][member, 1], loss.item(), rtol=1e-4)
        np.testing.assert_allclose(got.properties["train_accuracy"][member, 1], right.item(), rtol=1e-6)


@pytest.mark.parametrize(
    ("preset", "when"),
    [
        ("mnist_seed", "during"),
        ("svhn_hyp_rand", "during"),
        ("cifar10_resnet18_seed", "during"),
        ("cifar10_phase_resnet18_w8", "during"),
        ("mnist_small_cnn", "after"),
    ],
)
def test_presets_measure_as_published(preset, when):
    assert build_preset(preset).train_metrics == when


def test_where_train_metrics_come_from_must_be_said():
    said = build_preset("mnist_seed").model_dump(mode="json")
    said["train_metrics"] = "while"
    with pytest.raises(ValidationError, match="'after' or 'during'"):
        ZooConfig.model_validate(said)
    del said["train_metrics"]
    with pytest.raises(ValidationError, match=r"train_metrics\n +Field required"):
        ZooConfig.model_validate(said)
