import numpy as np
import pandas as pd
import pytest
import torch

from weightspace import store
from weightspace.config import BadInput
from weightspace.networks import build_cnn_s, build_layout, run_networks
from weightspace.store import Checkpoints, list_parts, name_part, read_checkpoints, write_part
from weightspace.weights.config import WeightsConfig
from weightspace.weights.permute import permute_weights
from weightspace.weights.prepare import prepare_weight_data
from weightspace.weights.statistics import measure_statistics
from weightspace.weights.weight_data import read_alignment, read_weight_data

ARCHITECTURE = build_cnn_s()
LAYOUT = build_layout(ARCHITECTURE)
MEMBERS, EPOCHS = 20, 4


def configure(**changes):
    config = {
        "zoo": "made_up",
        "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
        "filters": [],
        "max_abs_weight": None,
        "split": {"train": 0.7, "val": 0.15, "test": 0.15, "seed": 0},
        "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 100},
        "standardization": {"kind": "layer"},
    }
    return WeightsConfig.model_validate(config | changes)


def make_part(first, members, rng):
    rows = members * EPOCHS
    start = rng.normal(size=(members, 1, LAYOUT.num_weights))
    steps = rng.normal(size=(members, EPOCHS, LAYOUT.num_weights)).cumsum(1)
    table = pd.DataFrame(
        {
            "member": [f"m{first + i:05d}" for i in range(members) for _ in range(EPOCHS)],
            "epoch": np.tile(np.arange(EPOCHS), members),
            "val_accuracy": rng.random(rows).astype(np.float32),
            "diverged": np.zeros(rows, bool),
            "activation": "tanh",
            "lr": rng.random(rows),
        }
    )
    weights = (0.2 * start + 0.02 * steps).astype(np.float32).reshape(rows, -1)
    return Checkpoints(LAYOUT, table, weights, {"architecture": ARCHITECTURE.model_dump(mode="json")})


def write_zoo(folder, change=None):
    """Two parts of made-up members, after a change to their table and weights."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        part = make_part(number * MEMBERS // 2, MEMBERS // 2, rng)
        if change:
            change(part)
        write_part(folder / name_part(number), part)


@pytest.fixture
def zoo(tmp_path):
    folder = tmp_path / "zoo"
    write_zoo(folder)
    return folder


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def prepare(zoo, target, **changes):
    prepare_weight_data(zoo, target, configure(**changes))
    return read_weight_data(target)


def test_no_member_is_on_two_sides(zoo, target):
    table = prepare(zoo, target).checkpoints.table
    assert (table.groupby("member")["split"].nunique() == 1).all()
    assert table.groupby("split")["member"].nunique().to_dict() == {"train": 14, "val": 3, "test": 3}


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


def test_reference_is_the_best_train_member_on_validation_images(zoo, target):
    data = prepare(zoo, target)
    table = data.checkpoints.table
    last = table[(table["epoch"] == EPOCHS - 1) & (table["split"] == "train")]
    best = last["val_accuracy"].idxmax()
    assert np.array_equal(data.reference.numpy(), read_checkpoints(zoo).weights[best])


def test_reference_may_be_named(zoo, target):
    reference = {"kind": "member", "member": "m00017"}
    alignment = {"kind": "weight_matching", "reference": reference, "seed": 0, "max_sweeps": 100}
    data = prepare(zoo, target, alignment=alignment)
    row = np.flatnonzero(data.checkpoints.table["member"] == "m00017")[-1]
    assert np.array_equal(data.reference.numpy(), data.checkpoints.weights[row])


def test_unknown_reference_is_refused(zoo, target):
    alignment = {"kind": "weight_matching", "reference": {"kind": "member", "member": "x"}, "seed": 0, "max_sweeps": 9}
    with pytest.raises(BadInput, match=r"alignment\.reference\.member: got 'x'"):
        prepare(zoo, target, alignment=alignment)


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
    with pytest.raises(BadInput, match="no train member has a checkpoint"):
        prepare(tmp_path / "zoo", target)


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ({"kind": "range", "first": 1, "last": None, "every": 1}, [1, 2, 3]),
        ({"kind": "range", "first": 1, "last": None, "every": 2}, [1, 3]),
        ({"kind": "range", "first": 0, "last": 1, "every": 1}, [0, 1]),
        ({"kind": "list", "epochs": [3, 0, 77]}, [0, 3]),
    ],
)
def test_epochs_asked_for_are_kept(zoo, target, epochs, kept):
    table = prepare(zoo, target, epochs=epochs).checkpoints.table
    assert sorted(table["epoch"].unique()) == kept
    assert len(table) == MEMBERS * len(kept)


def test_alignment_is_that_of_the_last_epoch_whatever_epochs_are_kept(zoo, target, tmp_path):
    prepare(zoo, target)
    (tmp_path / "other").mkdir()
    prepare(zoo, tmp_path / "other", epochs={"kind": "list", "epochs": [0]})
    first, second = read_alignment(target), read_alignment(tmp_path / "other")
    assert all(torch.equal(first.permutations[name], second.permutations[name]) for name in first.permutations)


def test_filters_keep_what_lies_between_their_bounds(zoo, target):
    filters = [{"column": "lr", "low": 0.2, "high": 0.9}, {"column": "val_accuracy", "low": 0.1, "high": None}]
    table = prepare(zoo, target, filters=filters).checkpoints.table
    original = read_checkpoints(zoo).table
    keep = original["lr"].between(0.2, 0.9) & (original["val_accuracy"] >= 0.1)
    assert len(table) == keep.sum()


@pytest.mark.parametrize("column", ["accuracy", "activation"])
def test_filter_of_what_is_no_number_is_refused(zoo, target, column):
    with pytest.raises(BadInput, match=f"filters: got column '{column}', wanted a number of the zoo: .*val_accuracy"):
        prepare(zoo, target, filters=[{"column": column, "low": 0, "high": None}])


def test_checkpoints_with_huge_weights_are_left_out(tmp_path, target):
    def grow(part):
        part.weights[5, 7] = -200

    write_zoo(tmp_path / "zoo", grow)
    data = prepare(tmp_path / "zoo", target, max_abs_weight=100)
    assert len(data.checkpoints.table) == MEMBERS * EPOCHS - 2


def test_zoo_with_too_few_members_is_refused(zoo, target):
    with pytest.raises(BadInput, match=r"split: .* of 0 members .*wanted at least 4 members"):
        prepare(zoo, target, filters=[{"column": "lr", "low": 2, "high": None}])


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
