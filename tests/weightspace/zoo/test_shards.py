import logging
import os

import numpy as np
import pandas as pd
import pytest
import torch

from weightspace.config import BadInput
from weightspace.networks import build_layout
from weightspace.store import write_part
from weightspace.zoo import shards, training
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.residual import describe_residual
from weightspace.zoo.shards import plan_shards, settle_zoo, train_shard
from weightspace.zoo.train import train_table

CPU = torch.device("cpu")
RESNET = describe_residual(18, 2, (1, 8, 8), 3)
FIXED = {
    "activation": "relu",
    "init": "kaiming_normal",
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "batch_size": 10,
}


def configure(engine="auto", augmentation=None, **changes):
    factors = {name: {"kind": "fixed", "value": value} for name, value in FIXED.items()}
    factors["train_fraction"] = {"kind": "choice", "values": [0.2, 1.0]}
    if augmentation:
        factors["augmentation"] = {"kind": "choice", "values": augmentation}
    return ZooConfig.model_validate(
        {
            "images": "tiny",
            "architecture": "cnn_s",
            "members": {"kind": "grid", "seeds": [1, 2], "max_members": 99, "factors": factors},
            "epochs": 3,
            "shard_size": 2,
            "engine": engine,
            "device": "auto",
            "train_metrics": "after",
            **changes,
        }
    )


def settle(caplog, config, network, device):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        settled = settle_zoo(config, network, device)
    return settled.engine, settled.device, [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("resnet", "device", "augmentation", "engine", "message"),
    [
        (False, "cpu", None, "fused_cpu", "engine: auto is fused_cpu on cpu for tiny"),
        (False, "cpu", ["none"], "fused_cpu", "engine: auto is fused_cpu on cpu for tiny"),
        (False, "cpu", ["none", "flip"], "torch", "engine: auto is torch on cpu for tiny, as no other can"),
        (False, "cuda", ["flip"], "torch", "engine: auto is torch on cuda for tiny, as no other can"),
        (
            False,
            "cuda:1",
            None,
            "torch",
            "engine: auto is torch on cuda:1 for tiny; fused_gpu, which no GPU has measured yet, runs where it is "
            "asked for",
        ),
        (True, "cpu", None, "torch", "engine: auto is torch on cpu for resnet18_w2, as no other can"),
        (True, "cuda", None, "torch", "engine: auto is torch on cuda for resnet18_w2, as no other can"),
    ],
)
def test_auto_is_settled_once_by_network_device_and_factors(
    tiny_architecture, caplog, resnet, device, augmentation, engine, message
):
    config, network = configure(augmentation=augmentation), RESNET if resnet else tiny_architecture
    assert settle(caplog, config, network, device) == (engine, device, [message])


def test_what_auto_settles_on_can_train_every_member(tiny_architecture, tiny_images):
    config = settle_zoo(configure(augmentation=["none", "crop_flip"]), tiny_architecture, "cpu")
    for shard in plan_shards(config, tiny_architecture, ""):
        assert np.isfinite(train_shard(shard, config, tiny_architecture, tiny_images, CPU).weights).all()


def test_an_engine_that_is_named_is_kept_without_a_word(tiny_architecture, caplog):
    for engine, device in (("torch", "cpu"), ("torch", "cuda"), ("fused_cpu", "cpu")):
        assert settle(caplog, configure(engine), tiny_architecture, device) == (engine, device, [])


@pytest.mark.parametrize("triton", [True, False])
def test_torch_takes_the_place_of_fused_gpu_where_triton_is_not(tiny_architecture, caplog, monkeypatch, triton):
    monkeypatch.setattr(shards, "has_triton", lambda: triton)
    engine, _, messages = settle(caplog, configure("fused_gpu"), tiny_architecture, "cuda")
    assert engine == ("fused_gpu" if triton else "torch")
    assert (
        messages == []
        if triton
        else ["engine: torch on cuda in place of fused_gpu, which needs triton, and that is not installed"]
    )


@pytest.mark.parametrize(
    ("engine", "resnet", "device", "augmentation", "message"),
    [
        ("fused_gpu", True, "cuda", None, "'fused_gpu' for resnet18_w2, wanted torch, which trains such networks"),
        ("fused_cpu", True, "cpu", None, "'fused_cpu' for resnet18_w2, wanted torch, which trains such networks"),
        ("fused_gpu", False, "cpu", None, "'fused_gpu' on device cpu, wanted auto, torch, fused_cpu on cpu"),
        ("fused_cpu", False, "cuda", None, "'fused_cpu' on device cuda, wanted auto, torch"),
        ("fused_cpu", False, "cpu", ["flip"], "'fused_cpu' for the augmentation 'flip', wanted torch"),
    ],
)
def test_an_engine_that_cannot_is_refused_before_any_work(
    tiny_architecture, engine, resnet, device, augmentation, message
):
    with pytest.raises(BadInput, match=f"engine: got {message}"):
        settle_zoo(configure(engine, augmentation), RESNET if resnet else tiny_architecture, device)


def test_a_device_of_no_kind_is_named(tiny_architecture):
    with pytest.raises(BadInput, match="device: got 'gpu', wanted auto, cpu, cuda or cuda:n"):
        settle_zoo(configure(), tiny_architecture, "gpu")


@pytest.mark.parametrize(
    ("engine", "at_once", "wanted"),
    [
        ("torch", 1, [0, 0, *[10, 50] * 3, 0, 0, *[15, 50] * 3]),
        ("fused_cpu", 2, [0, 60, 60, 60, 0, 65, 65, 65]),
    ],
)
def test_a_shard_counts_the_images_that_its_members_train_on(tiny_architecture, tiny_images, engine, at_once, wanted):
    table = pd.DataFrame(FIXED, index=range(4)).assign(
        seed=range(4), activation=["relu", "relu", "tanh", "tanh"], train_fraction=[1.0, 0.2, 1.0, 0.3]
    )
    initial = torch.zeros(4, build_layout(tiny_architecture).num_weights)
    members, images = [], []
    train_table(tiny_architecture, table, initial, tiny_images, 3, engine, CPU, members.append, on_images=images.append)
    assert images == wanted
    assert members == [at_once] * len(wanted)


@pytest.mark.parametrize(("engine", "resnet"), [("torch", False), ("fused_cpu", False), ("torch", True)])
def test_weights_that_lie_on_a_disk_are_the_same(tiny_architecture, tiny_images, tmp_path, monkeypatch, engine, resnet):
    network = RESNET if resnet else tiny_architecture
    config = settle_zoo(configure(engine), network, "cpu")
    shard = plan_shards(config, network, "")[0]
    in_memory = train_shard(shard, config, network, tiny_images, CPU, tmp_path)
    assert not isinstance(in_memory.weights, np.memmap)
    monkeypatch.setattr(training, "ROOM_BYTES", 0)
    on_disk = train_shard(shard, config, network, tiny_images, CPU, tmp_path)
    assert isinstance(on_disk.weights, np.memmap)
    assert on_disk.weights.tobytes() == in_memory.weights.tobytes()
    assert on_disk.table.equals(in_memory.table)
    assert list(tmp_path.iterdir()) == []
    for name, checkpoints in (("memory", in_memory), ("disk", on_disk)):
        write_part(tmp_path / name, checkpoints)
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "disk").read_bytes()


@pytest.mark.parametrize("has_call", [True, False])
def test_room_on_a_disk_is_taken_whole_at_once(tmp_path, monkeypatch, has_call):
    monkeypatch.setattr(training, "ZEROS_BYTES", 1000)
    if not has_call:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (tmp_path / "room").open("w+b") as file:
        training.reserve_room(file, 100_001)
        taken = os.fstat(file.fileno())
    assert taken.st_size == 100_001
    assert 512 * taken.st_blocks >= 100_001


def test_the_shards_of_a_zoo_and_what_follows_them_add_up(tiny_architecture, tiny_images, monkeypatch):
    said = []
    monkeypatch.setattr(shards, "log_progress", lambda *rest: said.append(rest) or (lambda _: None))
    config = settle_zoo(configure(), tiny_architecture, "cpu")
    planned = plan_shards(config, tiny_architecture, "")
    for shard in planned:
        train_shard(shard, config, tiny_architecture, tiny_images, CPU)
    # Two members of 10 images and two of 50, in this order, for three epochs.
    assert said == [("shard 0", 60, "images x members", 300.0), ("shard 1", 300, "images x members", 0.0)]
