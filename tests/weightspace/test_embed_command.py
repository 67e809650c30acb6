import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from tests.weightspace.hyperrep.small_model import build_untrained, make_data
from weightspace import cli
from weightspace.api import Hyperrep

DATA = make_data(4)
LAYOUT = DATA.checkpoints.layout


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Give a function that runs a command line in a folder with a hyper-representation `h` and networks `a`, `b`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h").mkdir()
    replace(build_untrained(), origin=None).save(tmp_path / "h")
    for row, name in enumerate("ab"):
        state = LAYOUT.split(torch.from_numpy(DATA.checkpoints.weights[row]))
        save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / f"{name}.safetensors")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["weightspace", "embed", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


def test_embeddings_are_printed(call):
    status, out, _ = call("a.safetensors", "b.safetensors", "--hyperrep", "h")
    embeddings = Hyperrep.load("h").embed(["a.safetensors", "b.safetensors"])
    head, *lines = out.splitlines()
    assert status == 0
    assert head.split()[:2] == ["member", "lost"]
    for line, lost, summary in zip(lines, embeddings.table["lost"], embeddings.summary, strict=True):
        assert line.split()[1:3] == [f"{lost:.2%}", f"{summary[0]:.3f}"]


def test_embeddings_are_written(call):
    assert call("a.safetensors", "b.safetensors", "--hyperrep", "h", "--out", "e.parquet")[0] == 0
    table = pd.read_parquet("e.parquet")
    assert list(table) == ["member", "lost", "summary"]
    assert table["member"].tolist() == ["a.safetensors", "b.safetensors"]
    embeddings = Hyperrep.load("h").embed(["a.safetensors", "b.safetensors"])
    np.testing.assert_array_equal(np.stack(table["summary"]), embeddings.summary)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("c.pt", "--hyperrep", "h"), "c.pt: cannot be read"),
        (("a.safetensors", "--hyperrep", "nowhere"), "nowhere/config.json: missing"),
        (("h/preprocessing.safetensors", "--hyperrep", "h"), "h/preprocessing.safetensors: does not fit; got mean 6"),
        (("a.safetensors", "--hyperrep", "h", "--out", "x.csv"), "--out: got x.csv, wanted a .parquet file"),
        (("a.safetensors", "--hyperrep", "h", "--device", "tpu"), "device: got 'tpu'"),
    ],
)
def test_wrong_words_end_in_one_line_and_status_2(call, words, said):
    status, _, err = call(*words)
    assert status == 2
    assert err.startswith(f"weightspace: {said}")
    assert err.count("\n") == 1
