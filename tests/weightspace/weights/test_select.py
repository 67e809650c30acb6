import pytest

from tests.weightspace.weights.made_up_zoo import EPOCHS, MEMBERS, prepare, write_zoo
from weightspace.config import BadInput
from weightspace.store import read_checkpoints


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


def test_filters_keep_what_lies_between_their_bounds(zoo, target):
    filters = [
        {"kind": "range", "column": "lr", "low": 0.2, "high": 0.9},
        {"kind": "range", "column": "val_accuracy", "low": 0.1, "high": None},
    ]
    table = prepare(zoo, target, filters=filters).checkpoints.table
    original = read_checkpoints(zoo).table
    keep = original["lr"].between(0.2, 0.9) & (original["val_accuracy"] >= 0.1)
    assert len(table) == keep.sum()


@pytest.mark.parametrize("column", ["accuracy", "activation"])
def test_filter_of_what_is_no_number_is_refused(zoo, target, column):
    with pytest.raises(BadInput, match=f"filters: got column '{column}', wanted a number of the zoo: .*val_accuracy"):
        prepare(zoo, target, filters=[{"kind": "range", "column": column, "low": 0, "high": None}])


def test_checkpoints_with_huge_weights_are_left_out(tmp_path, target):
    def grow(part):
        part.weights[5, 7] = -200

    write_zoo(tmp_path / "zoo", grow)
    data = prepare(tmp_path / "zoo", target, max_abs_weight=100)
    assert len(data.checkpoints.table) == MEMBERS * EPOCHS - 2


def vary_activation(part):
    member = part.table["member"].str[-1].astype(int)
    part.table["activation"] = member.map(lambda digit: ("relu", "tanh", "gelu")[digit % 3])
    part.table["batch_size"] = (member % 4) * 8


@pytest.mark.parametrize(("column", "values"), [("activation", ["relu", "gelu"]), ("batch_size", [8, 24])])
def test_filter_keeps_rows_with_one_of_some_values(tmp_path, target, column, values):
    write_zoo(tmp_path / "zoo", vary_activation)
    filters = [{"kind": "values", "column": column, "values": values}]
    table = prepare(tmp_path / "zoo", target, filters=filters).checkpoints.table
    original = read_checkpoints(tmp_path / "zoo").table
    assert set(table[column]) == set(values)
    assert len(table) == original[column].isin(values).sum()


def test_filter_for_a_value_that_is_not_there_is_refused(tmp_path, target):
    write_zoo(tmp_path / "zoo", vary_activation)
    filters = [{"kind": "values", "column": "activation", "values": ["relu", "silu"]}]
    with pytest.raises(BadInput, match=r"filters: got activation 'silu', wanted values that are in the zoo: .*gelu"):
        prepare(tmp_path / "zoo", target, filters=filters)


def test_filter_by_a_column_that_is_not_there_is_refused(zoo, target):
    filters = [{"kind": "values", "column": "dropout", "values": [0]}]
    with pytest.raises(BadInput, match="filters: got column 'dropout', wanted one of the zoo: member, epoch"):
        prepare(zoo, target, filters=filters)


def test_checkpoint_with_a_gap_passes_no_filter(tmp_path, target):
    def forget(part):
        part.table["lr"] = part.table["lr"].where(part.table["member"] > "m00002")

    write_zoo(tmp_path / "zoo", forget)
    filters = [{"kind": "range", "column": "lr", "low": None, "high": 1.0}]
    assert prepare(tmp_path / "zoo", target, filters=filters).checkpoints.table["member"].nunique() == MEMBERS - 3
