import numpy as np
import pandas as pd
import pytest
import torch

from weightspace import store
from weightspace.config import BadInput
from weightspace.layout import Layout, Place
from weightspace.store import Checkpoints, list_parts, name_part, write_part
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import WeightData, read_weight_data, write_preprocessing, write_weight_data
from weightspace.weights.weight_table import open_weight_data

ROWS, GROUP, PART = 60, 4, 20
SIDES = ("train", "train", "train", "val", "test")


def make_layout(length):
    return Layout(
        places=(Place(name="a.weight", kind="linear", layer=0, shape=(1, length), offset=0, axes=(None, None)),)
    )


LAYOUT = make_layout(8)
GROUP_BYTES = GROUP * 4 * LAYOUT.num_weights


def make_data(seed=0, layout=LAYOUT):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "member": [f"m{i // 2:03d}" for i in range(ROWS)],
            "epoch": np.arange(ROWS) % 2,
            "diverged": np.arange(ROWS) == 7,
            "split": [SIDES[i // 2 % len(SIDES)] for i in range(ROWS)],
        }
    )
    weights = rng.normal(size=(ROWS, layout.num_weights)).astype(np.float32)
    about = {"network": f"net_{layout.num_weights}"}
    statistics = Statistics(torch.full((1,), float(seed)), torch.ones(1))
    return WeightData(Checkpoints(layout, table, weights, about), statistics, torch.from_numpy(weights[seed]))


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Three parts of five row groups of four rows."""
    monkeypatch.setattr(store, "GROUP_BYTES", GROUP_BYTES)
    monkeypatch.setattr(store, "PART_BYTES", PART * 4 * LAYOUT.num_weights)


@pytest.fixture
def folder(tmp_path):
    write_weight_data(tmp_path, make_data())
    return tmp_path


@pytest.mark.parametrize("cache_groups", [1, 3, 100])
def test_any_rows_are_read_whatever_is_kept(folder, cache_groups):
    opened = open_weight_data(folder, cache_bytes=cache_groups * GROUP_BYTES)
    expected = torch.from_numpy(read_weight_data(folder).checkpoints.weights)
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = rng.integers(0, ROWS, 17)
        assert torch.equal(opened.read(rows), expected[rows])
    assert opened.read(rows[:0]).shape == (0, LAYOUT.num_weights)


def test_everything_but_the_weights_is_as_read_at_once(folder):
    opened, whole = open_weight_data(folder), read_weight_data(folder)
    pd.testing.assert_frame_equal(opened.table, whole.checkpoints.table)
    assert (opened.layout, opened.about) == (whole.checkpoints.layout, whole.checkpoints.about)
    assert torch.equal(opened.reference, whole.reference)
    assert torch.equal(opened.statistics.mean, whole.statistics.mean)
    assert opened.rows("train").tolist() == whole.rows("train").tolist()
    assert 7 not in opened.rows("val")


def test_kept_weights_stay_below_their_size(folder):
    opened = open_weight_data(folder, cache_bytes=3 * GROUP_BYTES)
    opened.read(np.arange(ROWS))
    assert sum(values.nbytes for values in opened.cache.values()) == 3 * GROUP_BYTES


def test_shuffled_rows_are_all_there_in_another_order_each_time(folder):
    opened = open_weight_data(folder)
    rows, rng = opened.rows("train"), np.random.default_rng(0)
    first, second = opened.shuffle(rows, rng), opened.shuffle(rows, rng)
    assert sorted(first) == sorted(second) == sorted(rows)
    assert first.tolist() != second.tolist() != rows.tolist()
    assert opened.shuffle(rows, np.random.default_rng(0)).tolist() == first.tolist()


@pytest.mark.parametrize("cache_groups", [4, 100])
def test_batches_of_shuffled_rows_decode_each_row_group_once(folder, cache_groups, monkeypatch):
    opened = open_weight_data(folder, cache_bytes=cache_groups * GROUP_BYTES)
    decoded = []
    read = store.StoredWeights.read_group
    monkeypatch.setattr(
        store.StoredWeights, "read_group", lambda self, number: decoded.append(number) or read(self, number)
    )
    for batch in np.split(opened.shuffle(np.arange(ROWS), np.random.default_rng(0)), ROWS // 2):
        opened.read(batch)
    assert sorted(decoded) == list(range(ROWS // GROUP))


def test_one_layout_of_several_is_opened_by_name(tmp_path):
    sets = {"net_8": make_data(), "net_9": make_data(1, make_layout(9))}
    for number, (name, data) in enumerate(sets.items()):
        write_part(tmp_path / name_part(number), data.checkpoints, ragged=True)
        write_preprocessing(tmp_path, data.statistics, data.reference, name)
    for name, data in sets.items():
        opened, whole = open_weight_data(tmp_path, name), read_weight_data(tmp_path, name)
        assert torch.equal(opened.read(np.arange(ROWS)), torch.from_numpy(data.checkpoints.weights))
        assert torch.equal(opened.reference, data.reference)
        assert torch.equal(whole.statistics.mean, data.statistics.mean)
    with pytest.raises(BadInput, match="several layouts, wanted one of them named: net_8, net_9"):
        open_weight_data(tmp_path)


def test_part_that_is_damaged_later_is_named(folder):
    opened = open_weight_data(folder)
    part = list_parts(folder)[1]
    part.write_bytes(b"PAR1" + bytes(part.stat().st_size - 8) + b"PAR1")
    with pytest.raises(BadInput, match=r"part-00001\.parquet: cannot be read as Parquet"):
        opened.read(np.arange(ROWS))


def test_checkpoint_on_no_side_is_refused(folder):
    data = make_data()
    data.checkpoints.table.loc[3, "split"] = "elsewhere"
    write_weight_data(folder, data)
    with pytest.raises(BadInput, match="`split` is 'elsewhere' in 1 rows, wanted train, val, test"):
        open_weight_data(folder)
