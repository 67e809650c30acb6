import numpy as np
import pandas as pd
import pytest
import torch

from weightspace.config import BadInput
from weightspace.networks import build_cnn_s, build_layout
from weightspace.store import Checkpoints
from weightspace.weights.permute import draw_permutations
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import (
    STATISTICS_NAME,
    Alignment,
    WeightData,
    read_alignment,
    read_weight_data,
    write_alignment,
    write_weight_data,
)

LAYOUT = build_layout(build_cnn_s())


@pytest.fixture
def data(generator):
    table = pd.DataFrame(
        {
            "member": ["a", "a", "b", "c", "d"],
            "epoch": [0, 1, 0, 0, 0],
            "diverged": [False, True, False, False, False],
            "split": ["train", "train", "val", "test", "train"],
        }
    )
    weights = torch.randn(5, LAYOUT.num_weights, generator=generator)
    statistics = Statistics(torch.randn(10, generator=generator), torch.rand(10, generator=generator))
    return WeightData(Checkpoints(LAYOUT, table, weights.numpy(), {"a": 1}), statistics, weights[3])


def test_weight_data_comes_back_to_the_bit(data, tmp_path):
    write_weight_data(tmp_path, data)
    found = read_weight_data(tmp_path)
    pd.testing.assert_frame_equal(found.checkpoints.table, data.checkpoints.table)
    assert np.array_equal(found.checkpoints.weights, data.checkpoints.weights)
    assert torch.equal(found.reference, data.reference)
    assert torch.equal(found.statistics.mean, data.statistics.mean)
    assert torch.equal(found.statistics.std, data.statistics.std)


def test_rows_are_those_of_one_side_that_have_not_diverged(data):
    assert data.rows("train").tolist() == [0, 4]
    assert data.rows("val").tolist() == [2]
    assert data.rows("test").tolist() == [3]


def test_alignment_comes_back_to_the_bit(tmp_path, generator):
    permutations = draw_permutations(LAYOUT, 2, generator)
    signs = {"conv1": torch.tensor([[1, -1], [-1, 1]], dtype=torch.int8)}
    before, after = torch.tensor([[2.0, torch.nan], [1.0, torch.nan]])
    alignment = Alignment(("m1", "m0"), permutations, before, after, signs)
    write_alignment(tmp_path, alignment)
    found = read_alignment(tmp_path)
    assert found.members == ("m1", "m0")
    assert all(torch.equal(found.permutations[name], permutations[name]) for name in permutations)
    assert set(found.permutations) == set(permutations)
    assert torch.equal(found.signs["conv1"], signs["conv1"])
    torch.testing.assert_close(found.before, alignment.before, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(found.after, alignment.after, equal_nan=True, rtol=0, atol=0)


def test_missing_file_is_named(data, tmp_path):
    write_weight_data(tmp_path, data)
    (tmp_path / STATISTICS_NAME).unlink()
    with pytest.raises(BadInput, match=r"statistics\.safetensors: missing"):
        read_weight_data(tmp_path)


def test_file_cut_short_is_named(data, tmp_path):
    write_weight_data(tmp_path, data)
    path = tmp_path / STATISTICS_NAME
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadInput, match=r"statistics\.safetensors: cannot be read"):
        read_weight_data(tmp_path)


def test_zoo_is_no_weight_data_set(data, tmp_path):
    del data.checkpoints.table["split"]
    write_weight_data(tmp_path, data)
    with pytest.raises(BadInput, match="no column `split`, wanted a weight data set"):
        read_weight_data(tmp_path)
