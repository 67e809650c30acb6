import pandas as pd
import pytest

from tasks import samples as tasks_samples
from tasks.samples import make_samples
from tests.weightspace.samples.small_study import SmallHyperrep, make_samples_config, write_inputs
from weightspace.config import BadInput
from weightspace.record import RECORD_NAME, read_record
from weightspace.samples.sample_store import read_samples


@pytest.fixture
def study(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.setattr(tasks_samples, "load_hyperreps", lambda folder, device: {"only": SmallHyperrep()})
    return tmp_path


def test_samples_are_written_with_a_record_of_their_inputs(study):
    make_samples("s", make_samples_config(), study)
    folder = study / "data/samples/s"
    assert set(read_record(folder).inputs) == {"weights/w", "hyperrep/h", "embeddings/e", "images/i"}
    scores = pd.read_parquet(folder / "scores.parquet")
    wanted = {"row", "sample", "seen", "activation", "val_accuracy", "test_accuracy", "test_loss"}
    assert wanted | {"nearest_distance", "error_iou"} <= set(scores.columns)
    assert len(read_samples(folder).weights) == len(scores)
    assert (folder / "diversity.parquet").is_file()


def test_a_second_run_gives_the_same_bytes(study):
    make_samples("s", make_samples_config(), study)
    first = read_record(study / "data/samples/s").digest
    make_samples("s", make_samples_config(), study)
    assert read_record(study / "data/samples/s").digest == first


def test_a_missing_input_is_named(study):
    with pytest.raises(BadInput, match=f"data/images/other: no {RECORD_NAME}"):
        make_samples("s", make_samples_config(images="other"), study)
