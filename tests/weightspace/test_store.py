import json

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from weightspace import store
from weightspace.config import BadInput, Config
from weightspace.networks import Architecture, Block, build_layout
from weightspace.record import RECORD_NAME, read_record, replace_folder, write_record
from weightspace.store import (
    Checkpoints,
    iterate_parts,
    list_parts,
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
LAYOUT = build_layout(TINY)


class Recipe(Config):
    value: int


def make_checkpoints(members=4, epochs=3, first=0):
    rows = members * epochs
    table = pd.DataFrame(
        {
            "member": [f"m{first + i:05d}" for i in range(members) for _ in range(epochs)],
            "epoch": np.tile(np.arange(epochs), members),
            "test_accuracy": np.linspace(0, 1, rows, dtype=np.float32),
            "diverged": np.arange(rows) % 5 == 4,
        }
    )
    weights = np.random.default_rng(first).normal(size=(rows, LAYOUT.num_weights)).astype(np.float32)
    return Checkpoints(LAYOUT, table, weights, {"architecture": TINY.model_dump(mode="json")})


@pytest.fixture
def folder(tmp_path):
    """Two parts of 12 rows, in row groups of 5 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "GROUP_BYTES", 5 * 4 * LAYOUT.num_weights)
        for number in range(2):
            write_part(tmp_path / name_part(number), make_checkpoints(first=4 * number))
    return tmp_path


@pytest.fixture
def recorded(folder):
    write_record(folder, "zoo", "made_up", Recipe(value=1), {})
    return folder


def join_parts():
    parts = [make_checkpoints(first=first) for first in (0, 4)]
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


def test_pandas_reads_the_folder_with_nothing_of_ours(recorded):
    table, weights = join_parts()
    found = pd.read_parquet(recorded)
    assert np.array_equal(np.stack(found.pop("weights").to_list()), weights)
    pd.testing.assert_frame_equal(found, table)


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


def test_parts_of_two_architectures_are_refused(folder):
    other = TINY.model_copy(update={"width": 3})
    layout = build_layout(other)
    table = make_checkpoints().table
    write_part(folder / name_part(2), Checkpoints(layout, table, np.zeros((12, layout.num_weights), np.float32)))
    with pytest.raises(BadInput, match=r"part-00002\.parquet: its layout is not that of part-00000\.parquet"):
        read_checkpoints(folder)


def test_parts_with_other_columns_are_refused(folder):
    part = make_checkpoints()
    part.table["extra"] = 1
    write_part(folder / name_part(2), part)
    with pytest.raises(BadInput, match="its parts have different columns"):
        read_checkpoints(folder)


def test_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no part-\*\.parquet there"):
        read_checkpoints(tmp_path)


def test_record_of_an_untouched_output_is_accepted(recorded):
    record = read_record(recorded)
    assert record.config == {"value": 1}
    assert set(record.files) == {name_part(0), name_part(1)}


def test_record_names_what_it_was_made_from(recorded, tmp_path):
    (tmp_path / "next").mkdir()
    made_from = read_record(recorded)
    record = write_record(tmp_path / "next", "weights", "n", Recipe(value=2), {"zoo": made_from})
    assert record.inputs == {"zoo/made_up": made_from.digest}


def test_part_cut_short_is_named_by_the_record(recorded):
    part = list_parts(recorded)[1]
    size = part.stat().st_size
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(BadInput, match=rf"part-00001\.parquet: {size - 1} bytes, wanted {size}"):
        read_record(recorded)


def test_one_altered_bit_is_noticed(recorded):
    part = list_parts(recorded)[0]
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    with pytest.raises(BadInput, match=r"part-00000\.parquet: its content is not what its record lists"):
        read_record(recorded)


def test_missing_part_is_named(recorded):
    list_parts(recorded)[0].unlink()
    with pytest.raises(BadInput, match=r"part-00000\.parquet: missing, though its record lists it"):
        read_record(recorded)


def test_output_without_a_record_is_not_finished(folder):
    with pytest.raises(BadInput, match=f"no {RECORD_NAME} there"):
        read_record(folder)


def test_record_says_nothing_of_the_moment(recorded):
    first = (recorded / RECORD_NAME).read_text()
    write_record(recorded, "zoo", "made_up", Recipe(value=1), {})
    assert (recorded / RECORD_NAME).read_text() == first
    assert set(json.loads(first)) == {"stage", "name", "config", "inputs", "libraries", "device", "files"}


def test_new_folder_takes_the_place_of_the_old(tmp_path):
    target = tmp_path / "out"
    for text in ("old", "new"):
        with replace_folder(target) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failure_leaves_the_old_folder_as_it_was(tmp_path):
    target = tmp_path / "out"
    with replace_folder(target) as folder:
        (folder / "old").write_text("old")

    def fail():
        with replace_folder(target) as folder:
            (folder / "half").write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_writer_leaves_the_old_folder_and_the_next_one_clears_up(tmp_path):
    target = tmp_path / "out"
    with replace_folder(target) as folder:
        (folder / "old").write_text("old")
    half = tmp_path / ".out.999999999"  # no process has this number
    half.mkdir()
    (tmp_path / ".out.other.999999999").mkdir()
    assert [path.name for path in target.iterdir()] == ["old"]
    with replace_folder(target) as folder:
        assert not half.exists()
        (folder / "new").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.other.999999999"}
