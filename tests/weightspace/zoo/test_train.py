import numpy as np
import pandas as pd
import pytest
import torch

from weightspace.networks import build_layout
from weightspace.zoo.train import train_table

CPU = torch.device("cpu")
FACTORS = pd.DataFrame(
    {
        "seed": np.arange(8),
        "activation": ["relu", "tanh"] * 4,
        "init": "kaiming_uniform",
        "optimizer": ["sgd", "adam", "adam", "sgd"] * 2,
        "lr": np.geomspace(1e-3, 1e-2, 8),
        "weight_decay": 1e-3,
        "dropout": 0.1,
        "batch_size": [7, 7, 5, 5, 7, 10, 10, 7],
        "train_fraction": [1.0, 0.5] * 4,
    }
)


def draw_weights(architecture):
    generator = torch.Generator().manual_seed(1)
    return 0.3 * torch.randn(len(FACTORS), build_layout(architecture).num_weights, generator=generator)


@pytest.mark.parametrize("extra", [{}, {"schedule": ["cosine", "one_cycle"] * 4, "label_noise": 0.2}])
def test_engines_agree_on_a_table_of_mixed_factors(tiny_architecture, tiny_images, extra):
    table, initial = FACTORS.assign(**extra), draw_weights(tiny_architecture)
    fused = train_table(tiny_architecture, table, initial, tiny_images, 2, "fused_cpu", CPU)
    plain = train_table(tiny_architecture, table, initial, tiny_images, 2, "torch", CPU)
    np.testing.assert_allclose(fused.weights, plain.weights, atol=1e-4)
    np.testing.assert_allclose(fused.properties["val_loss"], plain.properties["val_loss"], atol=1e-4)


@pytest.mark.parametrize("name", ["schedule", "label_noise"])
def test_a_factor_left_out_is_one_that_does_nothing(tiny_architecture, tiny_images, name):
    initial, nothing = draw_weights(tiny_architecture), {"schedule": "constant", "label_noise": 0.0}[name]
    without = train_table(tiny_architecture, FACTORS, initial, tiny_images, 2, "fused_cpu", CPU)
    said = train_table(tiny_architecture, FACTORS.assign(**{name: nothing}), initial, tiny_images, 2, "fused_cpu", CPU)
    assert without.weights.tobytes() == said.weights.tobytes()


def test_augmentation_changes_what_members_learn_from(tiny_architecture, tiny_images):
    initial = draw_weights(tiny_architecture)
    table = FACTORS.assign(augmentation=["none", "crop_flip"] * 4)
    plain = train_table(tiny_architecture, FACTORS, initial, tiny_images, 1, "torch", CPU)
    mixed = train_table(tiny_architecture, table, initial, tiny_images, 1, "torch", CPU)
    np.testing.assert_array_equal(mixed.weights[::2], plain.weights[::2])
    assert (mixed.weights[1::2, 1] != plain.weights[1::2, 1]).any(axis=1).all()
