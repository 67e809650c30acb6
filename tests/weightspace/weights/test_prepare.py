import numpy as np
import pandas as pd
import pytest
import torch

from tests.weightspace.weights.made_up_zoo import ARCHITECTURE, EPOCHS, LAYOUT, MEMBERS, prepare, write_zoo
from weightspace import store
from weightspace.config import BadInput
from weightspace.networks import run_networks
from weightspace.store import list_parts, read_checkpoints
from weightspace.weights.permute import permute_weights
from weightspace.weights.statistics import measure_statistics
from weightspace.weights.weight_data import read_alignment


def test_no_member_is_on_two_sides(zoo, target):
    table = prepare(zoo, target).checkpoints.table
    assert (table.groupby("member")["split"].nunique() == 1).all()
    assert table.groupby("split")["member"].nunique().to_dict() == {"train": 14, "val": 3, "test": 3}


def test_members_left_over_by_counts_are_not_kept(zoo, target):
    table = prepare(zoo, target, split={"kind": "counts", "train": 5, "val": 2, "test": 1, "seed": 0}).table
    assert table.groupby("split")["member"].nunique().to_dict() == {"train": 5, "val": 2, "test": 1}
    assert len(table) == 8 * EPOCHS
    assert read_alignment(target).members == tuple(dict.fromkeys(table["member"]))


def test_every_checkpoint_computes_what_it_did(zoo, target):
    before = torch.from_numpy(read_checkpoints(zoo).weights)
    after = torch.from_numpy(prepare(zoo, target).checkpoints.weights)
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    logits = [run_networks(ARCHITECTURE, LAYOUT.split(weights), images, "tanh") for weights in (before, after)]
    assert not torch.equal(before, after)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


def test_properties_and_factors_come_along(zoo, target):
    table = prepare(zoo, target).checkpoints.table
    pd.testing.assert_frame_equal(table.drop(columns="split"), read_checkpoints(zoo).table)


def test_all_epochs_of_a_member_are_reordered_as_its_last(zoo, target):
    data = prepare(zoo, target)
    alignment = read_alignment(target)
    original = torch.from_numpy(read_checkpoints(zoo).weights)
    table = data.checkpoints.table
    for i, member in enumerate(alignment.members):
        rows = np.flatnonzero(table["member"] == member)
        orders = {name: order[i].expand(EPOCHS, -1) for name, order in alignment.permutations.items()}
        aligned = permute_weights(LAYOUT, original[rows], orders)
        assert np.array_equal(data.checkpoints.weights[rows], aligned.numpy())
        assert alignment.after[i] == pytest.approx((aligned[-1] - data.reference).norm().item(), rel=1e-5)


def test_alignment_brings_members_nearer(zoo, target):
    prepare(zoo, target)
    alignment = read_alignment(target)
    others = alignment.before > 0
    assert others.sum() == MEMBERS - 1
    assert (alignment.after[others] < alignment.before[others]).all()


def test_without_alignment_no_weight_moves(zoo, target):
    data = prepare(zoo, target, alignment={"kind": "none"})
    assert np.array_equal(data.checkpoints.weights, read_checkpoints(zoo).weights)


@pytest.mark.parametrize("kind", ["layer", "robust", "global"])
def test_statistics_are_those_of_the_train_members(zoo, target, kind):
    data = prepare(zoo, target, standardization={"kind": kind})
    train = torch.from_numpy(data.checkpoints.weights[data.rows("train")])
    expected = measure_statistics(LAYOUT, train, kind)
    torch.testing.assert_close(data.statistics.mean, expected.mean)
    torch.testing.assert_close(data.statistics.std, expected.std)


def test_val_and_test_members_do_not_change_statistics_or_reference(zoo, target, tmp_path):
    before = prepare(zoo, target, alignment={"kind": "none"})
    table = before.checkpoints.table
    held_out = set(table["member"][table["split"] != "train"])

    def spoil(part):
        part.weights[part.table["member"].isin(held_out).to_numpy()] = 1e3

    write_zoo(tmp_path / "spoilt", spoil)
    (tmp_path / "other").mkdir()
    after = prepare(tmp_path / "spoilt", tmp_path / "other", alignment={"kind": "none"})
    assert (after.checkpoints.weights == 1e3).any()
    assert torch.equal(after.statistics.mean, before.statistics.mean)
    assert torch.equal(after.statistics.std, before.statistics.std)
    assert torch.equal(after.reference, before.reference)


def test_diverged_checkpoints_stay_marked_and_are_not_learnt_from(tmp_path, target):
    def diverge(part):
        rows = (part.table["member"] < "m00005") & (part.table["epoch"] >= 2)
        part.table.loc[rows, "diverged"] = True
        part.weights[rows.to_numpy()] = np.nan

    write_zoo(tmp_path / "zoo", diverge)
    data = prepare(tmp_path / "zoo", target)
    assert data.checkpoints.table["diverged"].sum() == 5 * 2
    assert np.isfinite(data.checkpoints.weights[data.rows("train")]).all()
    assert data.statistics.std.isfinite().all()
    # The last checkpoint that has not diverged says how the member is reordered.
    assert read_alignment(target).after.isfinite().all()


def test_member_that_is_never_finite_keeps_its_order(tmp_path, target):
    def diverge(part):
        rows = part.table["member"] == "m00003"
        part.table.loc[rows, "diverged"] = True
        part.weights[rows.to_numpy()] = np.nan

    write_zoo(tmp_path / "zoo", diverge)
    prepare(tmp_path / "zoo", target)
    alignment = read_alignment(target)
    member = alignment.members.index("m00003")
    assert alignment.after[member].isnan()
    for order in alignment.permutations.values():
        assert order[member].tolist() == list(range(order.shape[1]))


def test_zoo_that_has_diverged_entirely_is_refused(tmp_path, target):
    def diverge(part):
        part.table["diverged"] = True

    write_zoo(tmp_path / "zoo", diverge)
    with pytest.raises(BadInput, match="no train member of cnn_s has a checkpoint"):
        prepare(tmp_path / "zoo", target)


def test_alignment_is_that_of_the_last_epoch_whatever_epochs_are_kept(zoo, target, tmp_path):
    prepare(zoo, target)
    (tmp_path / "other").mkdir()
    prepare(zoo, tmp_path / "other", epochs={"kind": "list", "epochs": [0]})
    first, second = read_alignment(target), read_alignment(tmp_path / "other")
    assert all(torch.equal(first.permutations[name], second.permutations[name]) for name in first.permutations)


def test_zoo_with_too_few_members_is_refused(zoo, target):
    with pytest.raises(BadInput, match=r"split: .* of 0 members .*wanted at least 4 members"):
        prepare(zoo, target, filters=[{"kind": "range", "column": "lr", "low": 2, "high": None}])


def test_result_does_not_depend_on_the_parts_of_the_zoo(zoo, target, tmp_path, monkeypatch):
    prepare(zoo, target)
    whole = read_checkpoints(zoo)
    monkeypatch.setattr(store, "PART_BYTES", 7 * 4 * LAYOUT.num_weights)
    for folder in ("cut", "other"):
        (tmp_path / folder).mkdir()
    store.write_parts(tmp_path / "cut", whole)
    data = prepare(tmp_path / "cut", tmp_path / "other")
    assert len(list_parts(tmp_path / "other")) > 2
    assert np.array_equal(data.checkpoints.weights, read_checkpoints(target).weights)


def test_same_inputs_make_the_same_bytes(zoo, target, tmp_path):
    prepare(zoo, target)
    (tmp_path / "other").mkdir()
    prepare(zoo, tmp_path / "other")
    files = sorted(path.name for path in target.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "other").iterdir())
    assert all((target / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in files)
