import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weightspace.zoo.fused_build import write_module
from weightspace.zoo.fused_source import split_evenly
from weightspace.zoo.fused_tables import Lanes, find_ends, tabulate_keys, tabulate_shares
from weightspace.zoo.training import batch_bounds, draw_keep, mix_bits


@given(st.integers(1, 300), st.integers(1, 12))
def test_tiles_cover_a_range_once(total, most):
    covered = []
    for start, size, count in split_evenly(total, most):
        assert 1 <= size <= most
        for tile in range(count):
            covered += range(start + tile * size, start + (tile + 1) * size)
    assert covered == list(range(total))


def test_a_module_is_written_once():
    path = write_module("number = 1\n")
    before = path.stat().st_mtime_ns
    assert write_module("number = 1\n") == path
    assert path.stat().st_mtime_ns == before
    assert path.read_text() == "number = 1\n"


def make_lanes(num_train, batch_size):
    count = len(num_train)
    numbers = np.linspace(0.1, 0.4, count)
    return Lanes(
        np.arange(count),
        np.array(["sgd"] * count),
        np.array(batch_size),
        *[numbers] * 3,
        np.array(num_train),
        np.array(["constant"] * count),
        np.zeros(count),
    )


def test_rows_fall_into_the_batches_of_the_seam():
    lanes = make_lanes([50, 20, 33, 1], [7, 20, 16, 4])
    shares, ends = tabulate_shares(lanes), find_ends(lanes)
    for lane in range(4):
        for start, stop in batch_bounds(lanes.num_train[lane], lanes.batch_size[lane]):
            np.testing.assert_allclose(shares[start:stop, lane], 1 / (stop - start), rtol=1e-6)
            assert ends[start:stop, lane].tolist() == [False] * (stop - start - 1) + [True]
    assert ends.sum(0).tolist() == lanes.steps.tolist()


def test_keys_are_those_of_the_seam():
    lanes = make_lanes([50, 20], [7, 3])
    keys = tabulate_keys(lanes, 3)
    unit = np.arange(1000, dtype=np.uint64)
    # The second lane takes 7 steps an epoch; its row 16 is image 1 of step 5 of the third epoch.
    expected = draw_keep(np.array([1], np.uint64), 2 * 7 + 5, np.array([1], np.uint64), unit, np.array([0.3]))
    least = np.uint64(round(0.3 * 2**32))
    np.testing.assert_array_equal(mix_bits(keys[16, 1].astype(np.uint64) + unit) >= least, expected)
