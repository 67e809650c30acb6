import pandas as pd
import pytest
import torch

from tasks.hyperrep import HISTORY_NAME, make_hyperrep
from tests.weightspace.hyperrep.small_model import CPU, NoConfig, behave, make_config, make_data
from tests.weightspace.samples.small_study import build_image_set
from weightspace import record as record_module
from weightspace.config import BadInput
from weightspace.hyperrep import train as train_module
from weightspace.hyperrep.hyperrep import LAST_NAME, MODEL_NAME, UNTRAINED_NAME, Hyperrep
from weightspace.hyperrep.state import FILE_NAME
from weightspace.images.image_set import write_image_set
from weightspace.record import RECORD_NAME, read_record, write_record
from weightspace.store import list_parts
from weightspace.weights.weight_data import write_weight_data

CONFIG = make_config(training={"steps": 6, "validate_every": 2})


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "data/weights/w"
    folder.mkdir(parents=True)
    write_weight_data(folder, make_data(12))
    write_record(folder, "weights", "w", NoConfig(), {})
    return tmp_path


def kill_at_step_5(monkeypatch):
    take_step = train_module.take_step

    def take_or_die(run):
        if run.progress.step == 5:
            raise KilledError
        return take_step(run)

    monkeypatch.setattr(train_module, "take_step", take_or_die)


def test_hyperrep_is_written_with_history_and_record(study):
    make_hyperrep("h", CONFIG, study)
    folder = study / "data/hyperrep/h"
    record = read_record(folder)
    assert record.stage == "hyperrep"
    assert record.inputs == {"weights/w": read_record(study / "data/weights/w").digest}
    assert pd.read_parquet(folder / HISTORY_NAME)["step"].tolist() == [2, 4, 6]
    names = (MODEL_NAME, UNTRAINED_NAME, LAST_NAME)
    trained, untrained, last = (Hyperrep.load(folder, CPU, name) for name in names)
    assert trained.config == untrained.config == last.config == CONFIG
    assert not torch.equal(*(one.model.state_dict()["to_latent.weight"] for one in (trained, untrained)))


def test_images_are_an_input_where_networks_are_run(study):
    config = make_config(**behave(), training={"steps": 2, "validate_every": 2})
    with pytest.raises(BadInput, match=f"data/images/i: no {RECORD_NAME}"):
        make_hyperrep("h", config, study)
    folder = study / "data/images/i"
    folder.mkdir(parents=True)
    write_image_set(folder, build_image_set())
    write_record(folder, "images", "i", NoConfig(), {})
    make_hyperrep("h", config, study)
    assert set(read_record(study / "data/hyperrep/h").inputs) == {"weights/w", "images/i"}
    assert "val_behaviour" in pd.read_parquet(study / "data/hyperrep/h" / HISTORY_NAME)


def test_same_inputs_give_the_same_bytes(study):
    for name in ("h", "again"):
        make_hyperrep(name, CONFIG, study)
    files = [read_record(study / "data/hyperrep" / name).files for name in ("h", "again")]
    assert files[0] == files[1]


def test_killed_training_goes_on_to_the_same_bytes(study, monkeypatch):
    make_hyperrep("whole", CONFIG, study)
    work = study / "data/.work/hyperrep/h"
    with monkeypatch.context() as patch:
        kill_at_step_5(patch)
        with pytest.raises(KilledError):
            make_hyperrep("h", CONFIG, study)
    assert len(list(work.rglob(FILE_NAME))) == 1
    assert not (study / "data/hyperrep/h").exists()
    taken = []
    take_step = train_module.take_step
    monkeypatch.setattr(train_module, "take_step", lambda run: taken.append(run.progress.step) or take_step(run))
    make_hyperrep("h", CONFIG, study)
    assert taken == [4, 5]
    assert read_record(study / "data/hyperrep/h").files == read_record(study / "data/hyperrep/whole").files


def test_state_of_another_configuration_is_not_taken_up(study, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at_step_5(patch)
        with pytest.raises(KilledError):
            make_hyperrep("h", CONFIG, study)
    other = make_config(training={"steps": 6, "validate_every": 2, "seed": 1})
    taken = []
    take_step = train_module.take_step
    monkeypatch.setattr(train_module, "take_step", lambda run: taken.append(run.progress.step) or take_step(run))
    make_hyperrep("h", other, study)
    assert taken == list(range(6))


def test_state_of_other_code_is_not_taken_up(study, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at_step_5(patch)
        with pytest.raises(KilledError):
            make_hyperrep("h", CONFIG, study)
    taken = []
    take_step = train_module.take_step
    monkeypatch.setattr(train_module, "take_step", lambda run: taken.append(run.progress.step) or take_step(run))
    monkeypatch.setattr(record_module, "digest_code", lambda: "other")
    make_hyperrep("h", CONFIG, study)
    assert taken == list(range(6))


def test_missing_weight_data_is_named(study):
    with pytest.raises(BadInput, match=f"data/weights/other: no {RECORD_NAME}"):
        make_hyperrep("h", CONFIG.model_copy(update={"weights": "other"}), study)


def test_truncated_weight_data_is_named(study):
    part = list_parts(study / "data/weights/w")[0]
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(BadInput, match=part.name):
        make_hyperrep("h", CONFIG, study)


def test_window_longer_than_the_model_leaves_no_output(study):
    with pytest.raises(BadInput, match="window: got 10000 tokens"):
        make_hyperrep("h", make_config(window=10000), study)
    assert not (study / "data/hyperrep/h").exists()


@pytest.mark.slow
def test_processes_leave_one_whole_output(study):
    config = make_config(training={"steps": 2, "validate_every": 2, "processes": 2})
    make_hyperrep("h", config, study)
    assert pd.read_parquet(study / "data/hyperrep/h" / HISTORY_NAME)["step"].tolist() == [2]
    assert read_record(study / "data/hyperrep/h").stage == "hyperrep"
    (scratch,) = (study / "data/.work/hyperrep/h").iterdir()
    assert [path.name for path in scratch.iterdir()] == [FILE_NAME]


def test_a_batch_size_that_was_found_is_in_config_and_record(study):
    config = make_config(training={"steps": 2, "validate_every": 2, "batch_size": "auto"})
    make_hyperrep("h", config, study)
    folder = study / "data/hyperrep/h"
    found = Hyperrep.load(folder, CPU).config.training.batch_size
    assert found in (1, 2, 4, 8)
    assert read_record(folder).config["training"]["batch_size"] == found
