import pandas as pd
import pytest

from tasks.probes import make_probes
from tests.weightspace.samples.small_study import write_inputs
from weightspace.config import BadInput
from weightspace.probes.config import ProbesConfig
from weightspace.record import read_record

CONFIG = ProbesConfig.model_validate(
    {
        "weights": "w",
        "embeddings": "e",
        "targets": ["test_accuracy", "activation"],
        "features": ["embedding", "statistics_7"],
        "first_epoch": 0,
        "every_epochs": 2,
        "ridge": {"scaling": "none", "penalties": [1.0]},
        "logistic": {"penalties": [1.0], "iterations": 20},
        "boosted": {
            "targets": ["test_accuracy"],
            "iterations": 3,
            "learning_rate": 0.3,
            "leaves": 4,
            "bins": 63,
            "widest": 50,
        },
        "resamples": 20,
        "seed": 0,
    }
)


@pytest.fixture
def study(tmp_path):
    write_inputs(tmp_path)
    return tmp_path


def test_probes_are_written_with_a_record_of_their_inputs(study):
    make_probes("p", CONFIG, study)
    record = read_record(study / "data/probes/p")
    assert set(record.inputs) == {"weights/w", "embeddings/e"}
    scores = pd.read_parquet(study / "data/probes/p/scores.parquet")
    assert list(scores.columns) == [
        *("target", "features", "probe", "split", "measure", "value", "low", "high", "num_members", "num_checkpoints")
    ]
    predictions = pd.read_parquet(study / "data/probes/p/predictions.parquet")
    assert list(predictions.columns) == [
        *("target", "features", "probe", "member", "epoch", "split", "truth", "prediction")
    ]


def test_a_second_run_gives_the_same_bytes(study):
    make_probes("p", CONFIG, study)
    first = read_record(study / "data/probes/p").digest
    make_probes("p", CONFIG, study)
    assert read_record(study / "data/probes/p").digest == first


def test_an_altered_input_is_refused_and_leaves_the_old_output(study):
    make_probes("p", CONFIG, study)
    part = study / "data/weights/w/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"part-00000\.parquet: \d+ bytes, wanted"):
        make_probes("p", CONFIG, study)
    read_record(study / "data/probes/p")
