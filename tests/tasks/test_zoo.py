import errno
import logging
import os

import pandas as pd
import pytest
import torch

from tasks import parts as tasks_parts
from tasks import zoo as tasks_zoo
from tasks.zoo import make_zoo
from weightspace import record
from weightspace.config import BadInput, Config
from weightspace.images.image_set import prepare_images, read_image_set
from weightspace.networks import build_cnn_s
from weightspace.record import RECORD_NAME, read_record, write_record
from weightspace.store import read_checkpoints, read_metadata
from weightspace.zoo import training
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.evaluate import evaluate_members

FIXED = {
    "activation": "tanh",
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "batch_size": 16,
    "train_fraction": 1.0,
}


class Interrupted(Exception):
    """Stands for a kill between two shards."""


@pytest.fixture
def config():
    factors = {name: {"kind": "fixed", "value": value} for name, value in FIXED.items()}
    factors["init"] = {"kind": "choice", "values": ["kaiming_uniform", "uniform"]}
    members = {"kind": "draw", "count": 3, "seed": 1, "factors": factors}
    return ZooConfig.model_validate(
        {
            "images": "noise",
            "architecture": "cnn_s",
            "members": members,
            "epochs": 1,
            "shard_size": 2,
            "engine": "torch",
            "device": "cpu",
            "train_metrics": "after",
        }
    )


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_zoo_has_every_epoch_of_every_member(tiny_study, config):
    make_zoo("z", config, tiny_study)
    table = pd.read_parquet(tiny_study / "data/zoo/z")
    assert sorted(zip(table["member"], table["epoch"], strict=True)) == [
        (f"m{i:06d}", epoch) for i in range(3) for epoch in range(2)
    ]
    assert table["generalization_gap"].equals(table["train_accuracy"] - table["test_accuracy"])
    assert not table["diverged"].any()


def test_stopped_and_resumed_equals_uninterrupted(tiny_study, config):
    make_zoo("whole", config, tiny_study)

    def stop_after_first(function, calls):
        function(*calls[0])
        raise Interrupted

    with pytest.raises(Interrupted):
        make_zoo("whole2", config, tiny_study, stop_after_first)
    make_zoo("whole2", config, tiny_study)
    first, second = files(tiny_study / "data/zoo/whole"), files(tiny_study / "data/zoo/whole2")
    assert {n: b for n, b in first.items() if n != RECORD_NAME} == {n: b for n, b in second.items() if n != RECORD_NAME}
    assert read_record(tiny_study / "data/zoo/whole").files == read_record(tiny_study / "data/zoo/whole2").files


def test_finished_shard_is_not_trained_again(tiny_study, config, monkeypatch):
    calls = []
    original = tasks_zoo.train_shard

    def train_shard(shard, *rest):
        calls.append(shard.number)
        if shard.number == 1 and calls.count(1) == 1:
            raise Interrupted
        return original(shard, *rest)

    monkeypatch.setattr(tasks_zoo, "train_shard", train_shard)
    with pytest.raises(Interrupted):
        make_zoo("z", config, tiny_study)
    make_zoo("z", config, tiny_study)
    assert calls == [0, 1, 1]


def test_what_is_yet_to_come_leaves_out_shards_that_an_earlier_run_finished(tiny_study, config):
    planned = []

    def stop_after_last(function, calls):
        planned.append({shard.number: shard.after for _, shard, *_ in calls})
        function(*calls[-1])
        raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            make_zoo("z", config, tiny_study, stop_after_last)
    assert planned == [{0: 1.0, 1: 0.0}, {0: 0.0}]


def test_changed_lr_does_not_reuse_old_shards(tiny_study, config, monkeypatch):
    monkeypatch.setattr(tasks_zoo.shutil, "rmtree", lambda *args, **kwargs: None)
    make_zoo("z", config, tiny_study)
    before = read_checkpoints(tiny_study / "data/zoo/z")
    values = config.model_dump()
    values["members"]["factors"]["lr"] = {"kind": "fixed", "value": 1e-2}
    monkeypatch.undo()
    make_zoo("z", ZooConfig.model_validate(values), tiny_study)
    after = read_checkpoints(tiny_study / "data/zoo/z")
    assert (before.weights[1] != after.weights[1]).any()


def test_shards_of_other_code_are_not_taken_up(tiny_study, config, monkeypatch):
    made, write = [], tasks_zoo.write_shard
    monkeypatch.setattr(tasks_zoo, "write_shard", lambda *said: made.append(said) or write(*said))
    for code, num in (("this", 2), ("this", 2), ("other", 4)):
        monkeypatch.setattr(record, "digest_code", lambda code=code: code)
        make_zoo("z", config, tiny_study)
        assert len(made) == num


def test_a_disk_without_room_for_a_shard_is_told_before_it_is_trained(tiny_study, config, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training, "ROOM_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(BadInput, match=r"zoo/z/\w+.parquet: the disk is full"):
        make_zoo("z", config, tiny_study)
    assert files(tiny_study / "data/.work/zoo/z") == {}


def test_order_of_shards_changes_nothing(tiny_study, config):
    def run_backwards(function, calls):
        for arguments in reversed(calls):
            function(*arguments)

    make_zoo("a", config, tiny_study)
    make_zoo("b", config, tiny_study, run_backwards)
    first, second = files(tiny_study / "data/zoo/a"), files(tiny_study / "data/zoo/b")
    assert {n: b for n, b in first.items() if n != RECORD_NAME} == {n: b for n, b in second.items() if n != RECORD_NAME}


def test_workers_who_do_not_share_the_folder_are_noticed(tiny_study, config, monkeypatch):
    monkeypatch.setattr(tasks_parts, "APPEAR_S", 0.0)
    with pytest.raises(BadInput, match="written by a worker but not seen here; all workers must share"):
        make_zoo("z", config, tiny_study, lambda function, calls: None)


def test_worker_that_sees_other_images_refuses(tiny_study, config):
    def run_with_others(function, calls):
        path, shard, config, architecture, source, _, *rest = calls[0]
        function(path, shard, config, architecture, source, "0" * 64, *rest)

    with pytest.raises(BadInput, match=r"images/noise: images [0-9a-f]{12} here, wanted 000000000000"):
        make_zoo("z", config, tiny_study, run_with_others)


def test_killed_while_it_wrote_leaves_no_shard(tiny_study, config, monkeypatch):
    def write_half(path, checkpoints):
        path.write_bytes(b"half")
        raise Interrupted

    monkeypatch.setattr(tasks_zoo, "write_part", write_half)
    with pytest.raises(Interrupted):
        make_zoo("z", config, tiny_study)
    assert list((tiny_study / "data/.work/zoo/z").iterdir()) == []


def test_image_set_that_does_not_fit_is_refused(tiny_study, config):
    with pytest.raises(BadInput, match=r"shape \(1, 28, 28\), but cnn_l takes \(1, 32, 32\)"):
        make_zoo("z", config.model_copy(update={"architecture": "cnn_l"}), tiny_study)


def test_truncated_images_are_refused_and_the_old_zoo_stays(tiny_study, config):
    make_zoo("z", config, tiny_study)
    before = files(tiny_study / "data/zoo/z")
    path = tiny_study / "data/images/noise/images.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"images\.safetensors: .* bytes, wanted"):
        make_zoo("z", config, tiny_study)
    assert files(tiny_study / "data/zoo/z") == before


def test_weights_in_the_table_are_the_networks_that_were_scored(tiny_study, config):
    make_zoo("z", config, tiny_study)
    zoo = read_checkpoints(tiny_study / "data/zoo/z")
    images = prepare_images(read_image_set(tiny_study / "data/images/noise"), torch.device("cpu"))
    _, accuracy = evaluate_members(build_cnn_s(), torch.tensor(zoo.weights), "tanh", images.test, images.test_labels)
    assert accuracy.tolist() == pytest.approx(zoo.table["test_accuracy"].tolist(), abs=1e-6)


def test_record_names_the_images_it_was_trained_on(tiny_study, config):
    make_zoo("z", config, tiny_study)
    images = read_record(tiny_study / "data/images/noise")
    assert read_record(tiny_study / "data/zoo/z").inputs == {"images/noise": images.digest}


def test_record_and_one_line_name_the_engine_that_auto_is(tiny_study, config, caplog):
    with caplog.at_level(logging.INFO):
        make_zoo("z", config.model_copy(update={"engine": "auto"}), tiny_study)
    assert read_record(tiny_study / "data/zoo/z").config["engine"] == "fused_cpu"
    assert read_metadata(tiny_study / "data/zoo/z/part-00001.parquet")[1]["recipe"]["engine"] == "fused_cpu"
    messages = [entry.message for entry in caplog.records if entry.message.startswith("engine")]
    assert messages == ["engine: auto is fused_cpu on cpu for cnn_s"]


def test_record_digest_ignores_nothing_that_changes(tmp_path):
    class Empty(Config):
        pass

    (tmp_path / "a").write_text("1")
    first = write_record(tmp_path, "s", "n", Empty(), {})
    (tmp_path / "a").write_text("2")
    assert write_record(tmp_path, "s", "n", Empty(), {}).digest != first.digest
