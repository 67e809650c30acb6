"""The Small CNN Zoo: one matrix, biases first, axes in TensorFlow's order."""

import gzip
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch

from weightspace.config import BadInput
from weightspace.store import read_checkpoints


def unpack_ours(vector):
    """Turn our vector of the small CNN zoo's network back into the source's row."""
    row, start = [], 0
    for out, into, kernel in ((16, 1, 3), (16, 16, 3), (16, 16, 3), (10, 16, 1)):
        size = out * into * kernel * kernel
        weight = vector[start : start + size].reshape(out, into, kernel, kernel).transpose(2, 3, 1, 0)
        row += [vector[start + size : start + size + out], weight.reshape(-1)]
        start += size + out
    return np.concatenate(row)


@pytest.mark.parametrize("archived", [False, True])
def test_small_cnn_zoo_comes_back(tmp_path, read, write_small_cnn, archived):
    matrix = write_small_cnn(tmp_path / "src")
    if archived:
        with tarfile.open(tmp_path / "src.tar.xz", "w:xz") as archive:
            archive.add(tmp_path / "src", arcname="mnist")
    read(tmp_path, "small_cnn_zoo", "src.tar.xz" if archived else "src")
    zoo = read_checkpoints(tmp_path / "zoo")
    assert zoo.layout.num_weights == 4970
    for row, (member, epoch) in enumerate((str(run), step) for step in (0, 1, 86) for run in range(3)):
        place = np.flatnonzero((zoo.table["member"] == member) & (zoo.table["epoch"] == epoch))
        assert unpack_ours(zoo.weights[place[0]]).tobytes() == matrix[row].tobytes()
    assert zoo.table["member"].tolist() == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert zoo.table["b_init"].tolist() == ["zeros"] * 9
    assert set(zoo.table["weight_decay"]) == {1e-4}


def run_small_cnn(row, image):
    """Compute the source's network from the source's own row, in channels-last numpy."""
    shapes = [(3, 3, 1, 16), (3, 3, 16, 16), (3, 3, 16, 16)]
    start, x = 0, image
    for shape in shapes:
        bias, size = row[start : start + 16], int(np.prod(shape))
        kernel = row[start + 16 : start + 16 + size].reshape(shape)
        start += 16 + size
        height = (x.shape[0] - 3) // 2 + 1
        patches = np.array([[x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(height)] for i in range(height)])
        x = np.maximum(np.einsum("ijklc,klco->ijo", patches, kernel) + bias, 0)
    return x.mean((0, 1)) @ row[start + 10 :].reshape(16, 10) + row[start : start + 10]


def test_small_cnn_networks_compute_the_same(tmp_path, read, write_small_cnn):
    matrix = write_small_cnn(tmp_path / "src").astype(np.float64)
    read(tmp_path, "small_cnn_zoo")
    zoo = read_checkpoints(tmp_path / "zoo")
    image = np.random.default_rng(1).standard_normal((20, 20, 1))
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    tensors = list(zoo.layout.split(torch.from_numpy(zoo.weights[0]).double()).values())
    for layer in range(3):
        x = torch.relu(torch.nn.functional.conv2d(x, tensors[2 * layer], tensors[2 * layer + 1], stride=2))
    logits = x.mean((2, 3)) @ tensors[6].T + tensors[7]
    assert logits[0].tolist() == pytest.approx(run_small_cnn(matrix[0], image).tolist())


def test_small_cnn_zoo_of_too_few_rows_is_refused(tmp_path, read, write_small_cnn):
    matrix = write_small_cnn(tmp_path / "src")
    np.save(tmp_path / "src/weights.npy", matrix[:-1])
    with pytest.raises(BadInput, match=r"shape \(8, 4970\), wanted float32 of \(9, 4970\)"):
        read(tmp_path, "small_cnn_zoo")


@pytest.mark.parametrize("file", ["weights.npy", "metrics.csv.gz"])
def test_truncated_small_cnn_zoo_is_refused(tmp_path, read, write_small_cnn, file):
    write_small_cnn(tmp_path / "src")
    path = tmp_path / "src" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=f"{file} ?.*cut short"):
        read(tmp_path, "small_cnn_zoo")


def test_matrix_of_objects_is_refused(tmp_path, read, write_small_cnn):
    write_small_cnn(tmp_path / "src")
    np.save(tmp_path / "src/weights.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"weights\.npy cannot be read"):
        read(tmp_path, "small_cnn_zoo")


def test_metrics_cut_after_whole_lines_is_refused(tmp_path, read, write_small_cnn):
    write_small_cnn(tmp_path / "src")
    path = tmp_path / "src/metrics.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-2])))
    with pytest.raises(BadInput, match=r"wanted float32 of \(7, 4970\)"):
        read(tmp_path, "small_cnn_zoo")


def test_published_order_of_rows_becomes_a_split(tmp_path, read, write_small_cnn):
    matrix = write_small_cnn(tmp_path / "src", runs=20)
    order = np.random.default_rng(3).permutation(len(matrix))
    np.savetxt(tmp_path / "src/split.csv", order, fmt="%d")
    read(tmp_path, "small_cnn_zoo", split_file="src/split.csv")
    sides = pd.read_parquet(tmp_path / "zoo").groupby("member")["published_split"].unique().map(list).map(tuple)
    # Runs take turns in the matrix: row 40 + r is step 86 of run r.
    runs = [str(row - 40) for row in order if row >= 40]
    assert set(runs[10:]) == set(sides[sides == ("test",)].index)
    assert sides.value_counts().to_dict() == {("test",): 10, ("train",): 8, ("val",): 2}


@pytest.mark.parametrize("lines", ["0\n1\n", "0\n" * 9, "a\n", ""])
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_order_that_is_not_of_these_rows_is_refused(tmp_path, read, write_small_cnn, lines):
    write_small_cnn(tmp_path / "src")
    (tmp_path / "src/split.csv").write_text(lines)
    with pytest.raises(BadInput, match=r"split\.csv: "):
        read(tmp_path, "small_cnn_zoo", split_file="src/split.csv")


def test_member_that_is_not_a_number_stays_marked(tmp_path, read, write_small_cnn):
    matrix = write_small_cnn(tmp_path / "src")
    matrix[4, 100] = np.nan  # run 1 at its second step
    np.save(tmp_path / "src/weights.npy", matrix)
    [report] = read(tmp_path, "small_cnn_zoo")
    zoo = read_checkpoints(tmp_path / "zoo")
    assert report["diverged_members"] == ["1"]
    assert zoo.table.loc[zoo.table["diverged"], ["member", "epoch"]].to_numpy().tolist() == [["1", 1]]
    assert np.isnan(zoo.weights).sum() == 1
