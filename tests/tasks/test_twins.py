import numpy as np
import pandas as pd
import pytest
import torch

from tasks import twins as tasks_twins
from tasks.twins import make_twins
from tasks.zoo import make_zoo
from tests.tasks.test_zoo import FIXED, files
from tests.weightspace.twins.small_twins import make_config
from weightspace import record
from weightspace.config import BadInput
from weightspace.images.image_set import prepare_images, read_image_set
from weightspace.networks import build_cnn_s
from weightspace.record import RECORD_NAME, read_record
from weightspace.store import read_checkpoints
from weightspace.twins.config import TwinsConfig
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.evaluate import evaluate_members


class Interrupted(Exception):
    """Stands for a kill between two shards."""


@pytest.fixture
def study(tiny_study):
    """A study with a zoo `z` of three members and one epoch."""
    factors = {name: {"kind": "fixed", "value": value} for name, value in FIXED.items()}
    factors["init"] = {"kind": "fixed", "value": "kaiming_uniform"}
    said = {"images": "noise", "architecture": "cnn_s", "epochs": 1, "shard_size": 2, "engine": "torch"}
    members = {"kind": "draw", "count": 3, "seed": 1, "factors": factors}
    where = {"device": "cpu", "train_metrics": "after"}
    make_zoo("z", ZooConfig.model_validate({**said, "members": members, **where}), tiny_study)
    return tiny_study


def make(study, name="t", shard_size=2, from_epoch=1, **method):
    make_twins(name, make_config(from_epoch, shard_size, **method), study)
    return read_checkpoints(study / "data/zoo" / name)


def test_twins_are_a_zoo_of_every_epoch_that_starts_from_the_members(study):
    twins, zoo = make(study, log_sigma2=-40.0, threshold=100.0), read_checkpoints(study / "data/zoo/z")
    assert sorted(zip(twins.table["member"], twins.table["epoch"], strict=True)) == [
        (f"m{i:06d}", epoch) for i in range(3) for epoch in range(3)
    ]
    starts = twins.select((twins.table["epoch"] == 0).to_numpy())
    ends = zoo.select((zoo.table["epoch"] == 1).to_numpy())
    order = [starts.table["member"].tolist().index(member) for member in ends.table["member"]]
    np.testing.assert_array_equal(starts.weights[order], ends.weights)
    np.testing.assert_allclose(starts.table["test_loss"].iloc[order], ends.table["test_loss"], rtol=1e-5)
    assert set(zoo.table) | {"sparsity"} == set(twins.table)
    assert twins.about["architecture"] == zoo.about["architecture"]
    assert twins.about["recipe"]["zoo"] == twins.about["twins_of"] == "z"
    assert twins.about["twins_of_digest"] == read_record(study / "data/zoo/z").digest


def test_accuracy_is_that_of_the_stored_weights(study):
    twins = make(study, kind="magnitude", sparsities=[0.9])
    images = prepare_images(read_image_set(study / "data/images/noise"), torch.device("cpu"))
    weights = torch.from_numpy(twins.weights.copy())
    loss, accuracy = evaluate_members(build_cnn_s(), weights, "tanh", images.test, images.test_labels)
    np.testing.assert_allclose(twins.table["test_accuracy"], accuracy.numpy(), atol=1e-6)
    np.testing.assert_allclose(twins.table["test_loss"], loss.numpy(), rtol=1e-4)
    np.testing.assert_allclose(twins.table["sparsity"], (twins.weights == 0).mean(1), atol=1e-6)


def test_stopped_and_resumed_equals_uninterrupted(study):
    def stop_after_first(function, calls):
        function(*calls[0])
        raise Interrupted

    config = make_config(1, 2)
    make_twins("whole", config, study)
    with pytest.raises(Interrupted):
        make_twins("again", config, study, stop_after_first)
    made = []
    make_twins("again", config, study, lambda function, calls: made.extend(function(*call) or 1 for call in calls))
    assert len(made) == 1
    whole, again = (files(study / "data/zoo" / name) for name in ("whole", "again"))
    assert {n: b for n, b in whole.items() if n != RECORD_NAME} == {n: b for n, b in again.items() if n != RECORD_NAME}
    said = read_record(study / "data/zoo/again")
    assert (said.stage, set(said.inputs)) == ("zoo", {"zoo/z", "images/noise"})


def test_another_method_does_not_reuse_old_shards(study):
    first, second = make(study, penalty=0.0), make(study, penalty=100.0, variance_lr=1.0)
    assert (first.weights != second.weights).any()


def test_shards_of_other_code_are_not_taken_up(study, monkeypatch):
    made, write = [], tasks_twins.write_shard
    monkeypatch.setattr(tasks_twins, "write_shard", lambda *said: made.append(said) or write(*said))
    for code, num in (("this", 2), ("this", 2), ("other", 4)):
        monkeypatch.setattr(record, "digest_code", lambda code=code: code)
        make(study, kind="magnitude", sparsities=[0.5])
        assert len(made) == num


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"from_epoch": 9}, "twins.t: from_epoch: got 9, wanted an epoch of zoo z, from 0 to 1"),
        ({"zoo": "y"}, "data/zoo/y: no _record.json there, so no finished output"),
        ({"images": "other"}, "data/images/other: no _record.json there"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(study, changes, wanted):
    config = TwinsConfig.model_validate(make_config(1, 2).model_dump() | changes)
    with pytest.raises(BadInput) as caught:
        make_twins("t", config, study)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(threshold):
    with pytest.raises(ValueError, match="finite number"):
        make_config(threshold=threshold)


def test_sparsities_must_ascend():
    with pytest.raises(ValueError, match="ascending order"):
        make_config(kind="magnitude", sparsities=[0.5, 0.5])


def test_twins_read_as_any_zoo(study):
    make(study, kind="magnitude", sparsities=[0.5, 0.9])
    table = pd.read_parquet(study / "data/zoo/t")
    np.testing.assert_allclose(table["sparsity"].to_numpy().reshape(3, 3), [[0, 0.5, 0.9]] * 3, atol=1e-3)
