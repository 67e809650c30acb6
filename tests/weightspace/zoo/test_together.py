"""How many torch modules of a zoo train side by side."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weightspace.config import BadInput
from weightspace.zoo import together as own
from weightspace.zoo import train
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import lay_out_network
from weightspace.zoo.named_module import describe_named
from weightspace.zoo.residual import describe_residual
from weightspace.zoo.shards import plan_shards, train_shard
from weightspace.zoo.together import choose_together
from weightspace.zoo.training import PROPERTIES

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RESNET = describe_residual(18, 2, (1, 8, 8), 3)


def configure(shard_size, batch_size=(16,), **changes):
    """Three members for each batch size."""
    fixed = {"activation": "relu", "init": "kaiming_normal", "optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0}
    fixed |= {"dropout": 0.0, "train_fraction": 0.96}
    factors = {name: {"kind": "fixed", "value": value} for name, value in fixed.items()}
    factors["batch_size"] = {"kind": "choice", "values": batch_size}
    return ZooConfig.model_validate(
        {
            "images": "tiny",
            "architecture": {"kind": "resnet", "depth": 18, "width": 2},
            "members": {"kind": "grid", "seeds": [1, 2, 3], "max_members": 99, "factors": factors},
            "epochs": 1,
            "shard_size": shard_size,
            "engine": "torch",
            "device": "cuda",
            "train_metrics": "after",
            **changes,
        }
    )


@pytest.fixture
def large_gpu(monkeypatch):
    """A CUDA device that is not there, with room for more than may train side by side."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))


@pytest.mark.parametrize(("shard_size", "num"), [(1, 1), (6, 6), (1000, 64)])
def test_no_more_train_side_by_side_than_a_shard_has(large_gpu, tiny_images, shard_size, num):
    assert choose_together(configure(shard_size), RESNET, tiny_images, CUDA) == num
    assert choose_together(configure(shard_size), RESNET, tiny_images, CPU) == 1


def test_the_largest_batch_of_the_zoo_decides_for_all_shards(large_gpu, tiny_images, monkeypatch):
    sizes = []
    monkeypatch.setattr(own, "measure_member", lambda *said: sizes.append(said[-1]) or 1e9)
    assert choose_together(configure(64, (8, 16, 24)), RESNET, tiny_images, CUDA) == 32
    assert sizes == [24]


@pytest.mark.parametrize(("shard_size", "sizes"), [(1, [1, 1, 1]), (2, [2, 2]), (3, [3])])
def test_the_engine_is_given_as_many_as_a_shard_has(large_gpu, tiny_images, monkeypatch, shard_size, sizes):
    given = []

    def note(network, recipe, initial, images, epochs, device, keep):
        given.append(len(initial))
        members = np.arange(len(initial))
        for epoch in range(epochs + 1):
            keep(members, epoch, initial.numpy(), {name: np.zeros(len(members), np.float32) for name in PROPERTIES})

    monkeypatch.setattr(train, "train_members_torch", note)
    config = configure(shard_size)
    for shard in plan_shards(config, RESNET, ""):
        made = train_shard(shard, config, RESNET, tiny_images, CUDA)
        assert made.weights.shape == (2 * len(shard.factors), lay_out_network(RESNET).num_weights)
    assert given == sizes


def test_more_than_a_shard_has_is_refused():
    with pytest.raises(BadInput, match="together: got 3, wanted at most shard_size = 2"):
        plan_shards(configure(2, together=3), RESNET, "")


def test_shards_that_were_trained_among_more_are_not_taken_up():
    first, second = (plan_shards(configure(size), RESNET, "")[0] for size in (3, 4))
    assert first.factors.equals(second.factors)
    assert first.digest != second.digest


def test_a_module_that_decides_by_numbers_trains_one_at_a_time(tiny_images, caplog):
    network = describe_named("tests.weightspace.zoo.user_modules:Branching", {}, (1, 8, 8), 3)
    with caplog.at_level(logging.INFO):
        assert choose_together(configure(4, together=2), network, tiny_images, CPU) == 1
    assert [record.message for record in caplog.records] == [
        "Branching: one member at a time, since torch.func.vmap cannot run it"
    ]
