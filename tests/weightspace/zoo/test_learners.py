"""Torch modules trained in the torch engine, against plain torch."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.weightspace.zoo.oracle import build_optimizer
from weightspace.config import BadInput
from weightspace.zoo.kinds import build_module, lay_out_network
from weightspace.zoo.members import initialize_members
from weightspace.zoo.modules import name_tensors, read_vector
from weightspace.zoo.named_module import describe_named
from weightspace.zoo.residual import describe_residual
from weightspace.zoo.together import check_last_batch, measure_member
from weightspace.zoo.train import choose_engine, train_table
from weightspace.zoo.training import batch_bounds, draw_order, draw_subset

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
RESNET = describe_residual(18, 2, SHAPE, 3)
MEMBERS = 3


def describe(name, **arguments):
    return describe_named(f"tests.weightspace.zoo.user_modules:{name}", arguments, SHAPE, 3)


def make_table(**changes):
    plain = {
        "seed": np.arange(5, 5 + MEMBERS),
        "activation": "relu",
        "init": "kaiming_normal",
        "optimizer": "sgd",
        "lr": np.geomspace(1e-2, 3e-2, MEMBERS),
        "weight_decay": [0.0, 1e-2, 1e-1],
        "dropout": 0.0,
        "batch_size": 16,
        "train_fraction": 0.96,
    }
    return pd.DataFrame({**plain, **changes})


def train(network, table, images, together, epochs=1):
    return train_table(network, table, initialize_members(network, table), images, epochs, "auto", CPU, None, together)


def train_alone(network, row, images, dtype):
    """Train one member for an epoch as anybody would; returns its vectors before and after, buffers included."""
    layout, module = lay_out_network(network), build_module(network, "relu")
    initial = initialize_members(network, pd.DataFrame([row]))[0]
    module.load_state_dict(name_tensors(module, layout, initial), strict=False)
    module = module.to(dtype).train()
    optimizer = build_optimizer(row["optimizer"], module.parameters(), row["lr"], row["weight_decay"])
    order = draw_order(row["seed"], 1, draw_subset(row["seed"], round(row["train_fraction"] * 50), 50))
    for start, stop in batch_bounds(len(order), row["batch_size"]):
        chosen = torch.from_numpy(order[start:stop])
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images.train[chosen].to(dtype)), images.train_labels[chosen]).backward()
        optimizer.step()
    return initial.double(), read_vector(module, layout).double()


@pytest.mark.parametrize("together", [1, MEMBERS])
@pytest.mark.parametrize(
    ("network", "optimizer"), [(RESNET, "sgd"), (describe("Small"), "adamw")], ids=["resnet", "own"]
)
def test_equals_plain_torch(tiny_images, network, optimizer, together):
    table = make_table(optimizer=optimizer)
    got = train(network, table, tiny_images, together)
    trained = lay_out_network(network).mask_trained(CPU)
    for number, row in enumerate(table.to_dict("records")):
        before, exact = train_alone(network, row, tiny_images, torch.float64)
        _, plain = train_alone(network, row, tiny_images, torch.float32)
        ours = torch.from_numpy(got.weights[number, 1])
        for part in (trained, ~trained):
            # AdamW takes full steps along gradients that are zero but for rounding, as of a bias before a norm.
            allowed = 2e-3 * (exact - before)[part].norm() + 2 * (plain - exact)[part].norm()
            assert (ours - exact)[part].norm() < allowed


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("network", [RESNET, describe("Small", rate=0.3)], ids=["resnet", "own"])
def test_a_member_alone_is_the_same_to_the_bit(tiny_images, network, together):
    table = make_table()
    among = train(network, table, tiny_images, together)
    alone = train(network, table.iloc[1:2], tiny_images, together)
    assert alone.weights[0].tobytes() == among.weights[1].tobytes()
    assert all(alone.properties[name][0].tobytes() == among.properties[name][1].tobytes() for name in among.properties)


def test_how_many_train_together_changes_rounding_alone(tiny_images):
    one, two = (train(RESNET, make_table(), tiny_images, together) for together in (1, 2))
    update = np.linalg.norm(one.weights[:, 1] - one.weights[:, 0])
    assert np.linalg.norm(one.weights[:, 1] - two.weights[:, 1]) < 2e-3 * update


def test_dropout_of_a_module_is_each_members_own(tiny_images):
    network = describe("Small", rate=0.5)
    table = make_table(seed=[7, 8, 7], lr=0.01, weight_decay=0.0)
    weights = train(network, table, tiny_images, 1).weights[:, 1]
    assert (weights[0] == weights[2]).all()
    assert (weights[0] != train(describe("Small"), table, tiny_images, 1).weights[0, 1]).any()


def test_checkpoints_carry_the_statistics_that_norms_have_gathered(tiny_images):
    layout = lay_out_network(RESNET)
    weights = torch.from_numpy(train(RESNET, make_table(), tiny_images, 1).weights)
    start, stop = (layout.split(weights[:, epoch]) for epoch in range(2))
    assert (start["bn1.running_mean"] == 0).all()
    assert (start["bn1.running_var"] == 1).all()
    assert (start["bn1.running_mean"] != stop["bn1.running_mean"]).all()


def test_a_module_that_decides_by_numbers_trains_one_at_a_time(tiny_images):
    assert np.isfinite(train(describe("Branching"), make_table(), tiny_images, 1).weights).all()


def test_a_diverged_member_disturbs_nobody(tiny_images):
    table = make_table(lr=[1e30, 1e-2, 1e-2], optimizer="adamw")
    got, wanted = (train(RESNET, t, tiny_images, 3) for t in (table, table.assign(lr=1e-2)))
    assert not np.isfinite(got.weights[0, 1]).all()
    np.testing.assert_array_equal(got.weights[1:], wanted.weights[1:])


def test_a_batch_of_one_image_is_refused_where_norms_need_more(tiny_images):
    table = make_table(batch_size=7, train_fraction=1.0)
    with pytest.raises(BadInput, match=r"batch_size: leaves a batch of one image, and resnet18_w2 cannot learn"):
        train(RESNET, table, tiny_images, 1)
    check_last_batch(describe("Small"), table, tiny_images)


def test_only_the_torch_engine_trains_a_resnet():
    for name, device in (("fused_cpu", CPU), ("fused_gpu", torch.device("cuda")), ("fused_gpu", CPU)):
        with pytest.raises(BadInput, match=f"engine: got '{name}' for resnet18_w2, wanted torch"):
            choose_engine(name, device, RESNET)
    assert choose_engine("auto", CPU, RESNET) is choose_engine("torch", CPU, RESNET)


def test_a_member_takes_memory_in_proportion_to_its_batch(tiny_images):
    few, many = (measure_member(RESNET, "relu", tiny_images.train[:2], size) for size in (10, 30))
    vectors = 8 * 4 * lay_out_network(RESNET).num_weights
    assert many - vectors == pytest.approx(3 * (few - vectors))
    # The stem alone leaves two images of 2x8x8 for each image: its input's product, and that after the norm.
    assert few - vectors > 2 * 10 * 2 * 2 * 64 * 4


@pytest.mark.parametrize("init", ["default", "kaiming_uniform", "normal"])
def test_inits_draw_convolutions_and_linear_layers_and_leave_norms(init):
    layout = lay_out_network(RESNET)
    table = make_table(init=init)
    drawn = initialize_members(RESNET, table)
    tensors = layout.split(drawn)
    spread = {"default": 1 / 3, "kaiming_uniform": 6**0.5 / 3, "normal": 10}[init]
    assert tensors["conv1.weight"].abs().max() <= spread
    assert tensors["conv1.weight"].abs().max() > 0.5 * min(spread, 1)
    assert (tensors["bn1.weight"] == 1).all()
    assert (tensors["bn1.bias"] == 0).all()
    assert (tensors["fc.bias"] == 0.01).all() == (init != "default")
    assert torch.equal(initialize_members(RESNET, table.iloc[1:2])[0], drawn[1])
    assert (tensors["conv1.weight"][0] != tensors["conv1.weight"][1]).any()
