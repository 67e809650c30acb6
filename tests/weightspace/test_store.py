from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from weightspace import store
from weightspace.config import BadInput
from weightspace.networks import Architecture, Block, build_layout
from weightspace.store import (
    Checkpoints,
    iterate_parts,
    list_layouts,
    list_parts,
    name_layout,
    name_part,
    read_checkpoints,
    read_part,
    read_rows,
    read_table,
    write_part,
    write_parts,
)

TINY = Architecture(
    name="tiny", channels=1, height=2, width=2, blocks=(Block(kind="linear", features=3, activate=False),)
)
WIDE = TINY.model_copy(update={"name": "wide", "width": 3})
LAYOUT, WIDE_LAYOUT = build_layout(TINY), build_layout(WIDE)


def make_checkpoints(members=4, epochs=3, first=0, layout=LAYOUT):
    rows = members * epochs
    table = pd.DataFrame(
        {
            "member": [f"m{first + i:05d}" for i in range(members) for _ in range(epochs)],
            "epoch": np.tile(np.arange(epochs), members),
            "test_accuracy": np.linspace(0, 1, rows, dtype=np.float32),
            "diverged": np.arange(rows) % 5 == 4,
        }
    )
    weights = np.random.default_rng(first).normal(size=(rows, layout.num_weights)).astype(np.float32)
    architecture = TINY if layout == LAYOUT else WIDE
    return Checkpoints(layout, table, weights, {"architecture": architecture.model_dump(mode="json")})


@pytest.fixture
def folder(tmp_path):
    """Two parts of 12 rows, in row groups of 5 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "GROUP_BYTES", 5 * 4 * LAYOUT.num_weights)
        for number in range(2):
            write_part(tmp_path / name_part(number), make_checkpoints(first=4 * number))
    return tmp_path


@pytest.fixture
def ragged(tmp_path):
    """Three parts of 12 rows in row groups of at most 5 rows, the second of another layout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "GROUP_BYTES", 5 * 4 * LAYOUT.num_weights)
        for number, layout in enumerate((LAYOUT, WIDE_LAYOUT, LAYOUT)):
            write_part(tmp_path / name_part(number), make_checkpoints(first=4 * number, layout=layout), ragged=True)
    return tmp_path


def join_parts(firsts=(0, 4)):
    parts = [make_checkpoints(first=first) for first in firsts]
    return pd.concat([p.table for p in parts], ignore_index=True), np.concatenate([p.weights for p in parts])


def test_checkpoints_come_back_to_the_bit(folder):
    table, weights = join_parts()
    found = read_checkpoints(folder)
    pd.testing.assert_frame_equal(found.table, table)
    assert np.array_equal(found.weights, weights)
    assert found.layout == LAYOUT
    assert found.about == {"architecture": TINY.model_dump(mode="json")}


def test_weights_that_are_not_finite_come_back_to_the_bit(tmp_path):
    checkpoints = make_checkpoints()
    checkpoints.weights[1, :3] = [np.nan, np.inf, -0.0]
    write_part(tmp_path / name_part(0), checkpoints)
    found = read_part(tmp_path / name_part(0)).weights
    assert np.array_equal(found.view(np.int32), checkpoints.weights.view(np.int32))


@pytest.mark.parametrize(
    "where",
    [pc.field("member") == "m00005", pc.field("epoch") == 2, pc.field("epoch") > 9, ~pc.field("diverged")],
    ids=["member", "epoch", "none", "diverged"],
)
def test_filter_keeps_the_rows_for_which_it_holds(folder, where):
    table, weights = join_parts()
    keep = pads.dataset(folder).to_table(columns={"keep": where}).column("keep").to_numpy()
    found = read_checkpoints(folder, where)
    pd.testing.assert_frame_equal(found.table, table[keep].reset_index(drop=True))
    assert np.array_equal(found.weights, weights[keep])


def test_some_rows_are_read_across_parts(folder):
    rows = np.array([23, 0, 4, 5, 11, 12, 0])
    assert np.array_equal(read_rows(folder, rows), join_parts()[1][rows])


def test_parts_are_read_one_after_the_other(folder):
    table, weights = join_parts()
    for first, part in iterate_parts(folder):
        assert np.array_equal(part.weights, weights[first : first + len(part.table)])
    pd.testing.assert_frame_equal(read_table(folder)[1], table)


def test_parts_stay_below_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART_BYTES", 5 * 4 * LAYOUT.num_weights)
    checkpoints = make_checkpoints()
    write_parts(tmp_path, checkpoints)
    assert [len(read_part(part).table) for part in list_parts(tmp_path)] == [5, 5, 2]
    assert np.array_equal(read_checkpoints(tmp_path).weights, checkpoints.weights)


def test_no_checkpoints_are_no_error(tmp_path):
    write_parts(tmp_path, make_checkpoints().select(np.arange(0)))
    assert read_checkpoints(tmp_path).weights.shape == (0, LAYOUT.num_weights)


def test_pandas_reads_the_folder_with_nothing_of_ours(folder):
    table, weights = join_parts()
    (folder / "_record.json").write_text("{}")
    found = pd.read_parquet(folder)
    assert np.array_equal(np.stack(found.pop("weights").to_list()), weights)
    pd.testing.assert_frame_equal(found, table)


def test_layouts_of_a_ragged_folder_are_listed_with_their_parts(ragged):
    parts = list_parts(ragged)
    assert list_layouts(ragged) == {"tiny": [parts[0], parts[2]], "wide": [parts[1]]}


def test_layouts_are_named_by_the_network_first():
    assert name_layout({"network": "a", "architecture": {"name": "b"}}) == "a"
    assert name_layout({"architecture": {"name": "b"}}) == "b"


def test_one_layout_of_a_ragged_folder_comes_back_to_the_bit(ragged):
    table, weights = join_parts((0, 8))
    found = read_checkpoints(ragged, layout="tiny")
    pd.testing.assert_frame_equal(found.table, table.assign(layout="tiny"))
    assert np.array_equal(found.weights, weights)
    assert (found.layout, found.about["network"]) == (LAYOUT, "tiny")
    assert read_table(ragged, "wide")[0] == WIDE_LAYOUT
    assert np.array_equal(read_rows(ragged, np.array([20, 3]), "tiny"), weights[[20, 3]])


def test_filter_reads_some_rows_of_a_ragged_folder(ragged):
    weights = join_parts((0, 8))[1]
    found = read_checkpoints(ragged, pc.field("member") == "m00009", "tiny")
    assert np.array_equal(found.weights, weights[15:18])


def test_parts_of_a_ragged_folder_come_with_their_own_layout(ragged):
    assert [(first, part.layout) for first, part in iterate_parts(ragged)] == [
        (0, LAYOUT),
        (12, WIDE_LAYOUT),
        (24, LAYOUT),
    ]
    assert [first for first, _ in iterate_parts(ragged, "tiny")] == [0, 12]


@pytest.mark.parametrize("read", [read_checkpoints, read_table])
def test_ragged_folder_asks_for_a_layout(ragged, read):
    with pytest.raises(BadInput, match="several layouts, wanted one of them named: tiny, wide"):
        read(ragged)
    with pytest.raises(BadInput, match="got the layout 'x', wanted one of tiny, wide"):
        read(ragged, layout="x")


def test_pandas_reads_a_ragged_folder_as_one_table(ragged):
    found = pd.read_parquet(ragged)
    assert found["layout"].tolist() == ["tiny"] * 12 + ["wide"] * 12 + ["tiny"] * 12
    expected = make_checkpoints(first=4, layout=WIDE_LAYOUT)
    assert np.array_equal(np.stack(found["weights"].to_list()[12:24]), expected.weights)


@pytest.mark.parametrize(("kind", "rows"), [("folder", 24), ("ragged", 36)])
def test_pyarrow_reads_the_folder_as_one_data_set(kind, rows, request):
    dataset = pads.dataset(request.getfixturevalue(kind))
    assert dataset.count_rows() == rows
    assert dataset.to_table(filter=pc.field("member") == "m00005").num_rows == 3


def test_row_groups_know_the_range_of_their_columns(folder):
    statistics = pq.read_metadata(list_parts(folder)[1]).row_group(1).column(0).statistics
    assert (statistics.min, statistics.max) == ("m00005", "m00007")


def test_same_checkpoints_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_part(tmp_path / name, make_checkpoints())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_temporary_file_is_left(folder):
    assert {path.name for path in folder.iterdir()} == {name_part(0), name_part(1)}


def test_selected_rows_keep_their_order():
    checkpoints = make_checkpoints()
    found = checkpoints.select(np.array([7, 2]))
    assert np.array_equal(found.weights, checkpoints.weights[[7, 2]])
    assert found.table["epoch"].tolist() == checkpoints.table["epoch"].iloc[[7, 2]].tolist()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_part_cut_short_is_named(folder, keep):
    part = list_parts(folder)[1]
    content = part.read_bytes()
    part.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BadInput, match=r"part-00001\.parquet: cannot be read as Parquet .*cut short or altered"):
        read_checkpoints(folder)


def test_file_that_is_no_parquet_is_named(folder):
    list_parts(folder)[0].write_bytes(b"PAR1 not at all")
    with pytest.raises(BadInput, match=r"part-00000\.parquet: cannot be read as Parquet"):
        read_checkpoints(folder)


def test_parquet_of_something_else_is_named(folder):
    pd.DataFrame({"a": [1]}).to_parquet(list_parts(folder)[0])
    with pytest.raises(BadInput, match=r"part-00000\.parquet: a Parquet file without a weight layout"):
        read_checkpoints(folder)


def test_parts_of_two_layouts_under_one_name_are_refused(folder):
    part = make_checkpoints(layout=WIDE_LAYOUT)
    write_part(folder / name_part(2), replace(part, about=make_checkpoints().about))
    with pytest.raises(BadInput, match=r"part-00002\.parquet: its layout is not that of part-00000\.parquet"):
        read_checkpoints(folder)


def test_parts_with_other_columns_are_refused(folder):
    part = make_checkpoints()
    part.table["extra"] = 1
    write_part(folder / name_part(2), part)
    with pytest.raises(BadInput, match="its parts have different columns"):
        read_checkpoints(folder)


def rewrite(part, change):
    """Change the table of a part as somebody else's writer would, and keep its metadata."""
    table = pq.read_table(part)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), part)


@pytest.mark.parametrize("column", ["member", "epoch", "diverged", "weights"])
def test_missing_column_is_named(folder, column):
    rewrite(list_parts(folder)[1], lambda table: table.drop_columns([column]))
    with pytest.raises(BadInput, match=f"part-00001.parquet: has no column `{column}`, wanted checkpoints with member"):
        read_checkpoints(folder)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("epoch", pa.array([0.5] * 12), "column `epoch` holds double, wanted whole numbers"),
        ("member", pa.array(range(12)), "column `member` holds int64, wanted words"),
        ("diverged", pa.array(["no"] * 12), "column `diverged` holds string, wanted true or false"),
        ("test_accuracy", pa.array(["0.5"] * 12), "column `test_accuracy` holds string, wanted numbers"),
        ("epoch", pa.array([None] + [1] * 11), "column `epoch` is empty in 1 of 12 rows, wanted a value in each"),
        ("weights", pa.array(range(12)), "column `weights` holds int64, wanted lists of float32"),
        ("weights", pa.array([[0.0]] * 12, pa.list_(pa.float32(), 1)), "holds lists of 1, wanted 15, as its layout"),
        ("weights", pa.array([[0.0]] * 12, pa.list_(pa.float32())), "a row has not 15 weights, wanted as many in each"),
        ("weights", pa.array([None] * 12, pa.list_(pa.float32(), 15)), "a row has not 15 weights, wanted as many"),
    ],
)
def test_column_that_holds_something_else_is_named(folder, column, values, message):
    change = lambda table: table.set_column(table.schema.get_field_index(column), column, values)  # noqa: E731
    rewrite(list_parts(folder)[0], change)
    with pytest.raises(BadInput, match=rf"part-00000\.parquet: .*{message}"):
        read_checkpoints(folder)


def test_column_of_ones_own_may_hold_anything(folder):
    for part in list_parts(folder):
        rewrite(part, lambda table: table.append_column("note", pa.array([[1]] * 12)))
    assert read_checkpoints(folder).table["note"].tolist() == [[1]] * 24


def test_networks_that_are_no_checkpoints_need_no_epoch(tmp_path):
    whole = make_checkpoints()
    samples = replace(whole, table=whole.table.drop(columns=["epoch", "diverged"]))
    write_part(tmp_path / "samples.parquet", samples)
    pd.testing.assert_frame_equal(read_part(tmp_path / "samples.parquet").table, samples.table)


def test_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no part-\*\.parquet there"):
        read_checkpoints(tmp_path)
