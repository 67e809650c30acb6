import numpy as np
import pandas as pd
import pytest

from weightspace.config import BadInput
from weightspace.embeddings.embeddings import (
    EMBEDDINGS_NAME,
    RECONSTRUCTION_NAME,
    Embeddings,
    read_embeddings,
    read_reconstruction,
    write_embeddings,
    write_reconstruction,
)
from weightspace.embeddings.lookup import find_checkpoints

TABLE = pd.DataFrame(
    {
        "member": ["m1", "m1", "m2", "m3"],
        "epoch": [0, 5, 5, 5],
        "split": ["train", "train", "val", "test"],
        "lr": [0.1, 0.1, 0.2, 0.3],
    }
)


@pytest.fixture
def embeddings():
    generator = np.random.default_rng(0)
    summary = generator.standard_normal((4, 6)).astype(np.float32)
    tokens = generator.standard_normal((4, 5, 3)).astype(np.float32)
    return Embeddings(TABLE, summary, tokens, untrained=-summary)


def test_round_trip_is_exact(embeddings, tmp_path):
    write_embeddings(tmp_path, embeddings)
    read = read_embeddings(tmp_path)
    assert read.table.equals(embeddings.table)
    assert np.array_equal(read.summary, embeddings.summary)
    assert np.array_equal(read.tokens, embeddings.tokens)
    assert np.array_equal(read.untrained, embeddings.untrained)


def test_any_reader_of_parquet_finds_a_row_of_numbers_a_checkpoint(embeddings, tmp_path):
    write_embeddings(tmp_path, embeddings)
    table = pd.read_parquet(tmp_path / EMBEDDINGS_NAME)
    assert np.array_equal(np.stack(table["tokens"].tolist()), embeddings.tokens.reshape(4, 15))
    assert np.array_equal(np.stack(table["summary"].tolist()), embeddings.summary)


def test_same_embeddings_give_the_same_bytes(embeddings, tmp_path):
    written = []
    for _ in range(2):
        write_embeddings(tmp_path, embeddings)
        written.append((tmp_path / EMBEDDINGS_NAME).read_bytes())
    assert written[0] == written[1]


def test_errors_round_trip(tmp_path):
    errors = TABLE[["member", "epoch", "split"]].assign(method="pca", layer="all", error=np.float32(0.5))
    write_reconstruction(tmp_path, [errors])
    assert read_reconstruction(tmp_path).equals(errors)


@pytest.mark.parametrize(
    ("name", "read"), [(EMBEDDINGS_NAME, read_embeddings), (RECONSTRUCTION_NAME, read_reconstruction)]
)
def test_missing_and_truncated_files_are_named(embeddings, tmp_path, name, read):
    with pytest.raises(BadInput, match=f"{name}: missing"):
        read(tmp_path)
    write_embeddings(tmp_path, embeddings)
    write_reconstruction(tmp_path, [TABLE])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadInput, match=f"{name}: cannot be read"):
        read(tmp_path)


def test_checkpoints_are_found_in_any_order():
    wanted = TABLE.iloc[[3, 0, 1]]
    assert find_checkpoints(wanted, TABLE, "e").tolist() == [3, 0, 1]


def test_a_checkpoint_that_is_not_there_is_named():
    wanted = pd.DataFrame({"member": ["m1", "m2"], "epoch": [5, 0]})
    with pytest.raises(BadInput, match="embeddings e: member m2 at epoch 0 is not there"):
        find_checkpoints(wanted, TABLE, "e")
