import shutil

import numpy as np
import pandas as pd
import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.config import BadInput, Config
from weightspace.networks import build_cnn_l, build_cnn_s, build_layout
from weightspace.record import write_record
from weightspace.report.config import ReportConfig
from weightspace.report.read import read_study
from weightspace.report.zoo import describe_sizes
from weightspace.store import Checkpoints, name_part, write_part

ALL = ReportConfig(title="t")


@pytest.fixture
def data(tmp_path):
    return write_study(tmp_path, Plan(stages=("samples", "transfer")))


def test_every_output_is_read(study):
    assert list(study.records) == [
        "zoo/tiny",
        "weights/tiny",
        "hyperrep/sane",
        "embeddings/sane",
        "probes/main",
        "samples/main",
        "transfer/digits",
        "transfer/mnist5k",
    ]


def test_weights_stay_on_disk(study):
    assert "weights" not in study.first("zoo").table("checkpoints")


def test_only_what_is_asked_for_is_shown(data):
    study = read_study(data, ReportConfig(title="t", show={"transfer": ("mnist5k",)}))
    assert [entry.name for entry in study.of("transfer")] == ["mnist5k"]


def test_unfinished_outputs_are_left_out(data):
    (data / "transfer" / ".digits.123").mkdir()
    assert len(read_study(data, ALL).of("transfer")) == 2


def test_an_output_that_is_asked_for_must_be_there(data):
    with pytest.raises(BadInput, match="kmnist"):
        read_study(data, ReportConfig(title="t", show={"transfer": ("kmnist",)}))


def test_a_file_cut_short_is_refused(data):
    path = data / "transfer" / "digits" / "curves.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"curves.parquet: \d+ bytes, wanted"):
        read_study(data, ALL)


def test_an_altered_file_is_refused(data):
    path = data / "samples" / "main" / "scores.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"scores.parquet"):
        read_study(data, ALL)


def test_a_missing_file_is_refused(data):
    (data / "samples" / "main" / "scores.parquet").unlink()
    with pytest.raises(BadInput, match="missing"):
        read_study(data, ALL)


def test_a_study_without_outputs_is_refused(data):
    shutil.rmtree(data)
    with pytest.raises(BadInput, match="no outputs there"):
        read_study(data, ALL)


def test_a_zoo_of_several_architectures_is_one_table(tmp_path):
    folder = tmp_path / "zoo" / "mixed"
    folder.mkdir(parents=True)
    for number, build in enumerate((build_cnn_s, build_cnn_l)):
        architecture = build()
        layout = build_layout(architecture)
        about = {"architecture": architecture.model_dump(mode="json"), "images": {"name": "a"}}
        table = pd.DataFrame({"member": [f"m{number}"], "epoch": [0], "diverged": [False], "test_accuracy": [0.5]})
        weights = np.zeros((1, layout.num_weights), np.float32)
        write_part(folder / name_part(number), Checkpoints(layout, table, weights, about), ragged=True)
    write_record(folder, "zoo", "mixed", Config(), {})
    entry = read_study(tmp_path, ALL).first("zoo")
    assert entry.table("checkpoints")["member"].tolist() == ["m0", "m1"]
    assert entry.about == {"images": {"name": "a"}}
    assert describe_sizes(entry).startswith("2 members, 2 checkpoints of 2,464 or 10,853 weights")
