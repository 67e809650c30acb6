import pandas as pd
import pytest

from tasks import embeddings as tasks_embeddings
from tasks.embeddings import make_embeddings
from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import NoConfig, build_untrained, make_data
from tests.weightspace.samples.small_study import build_image_set
from weightspace import record
from weightspace.config import BadInput
from weightspace.embeddings import embed
from weightspace.embeddings.embeddings import KEPT_NAME, read_embeddings, read_reconstruction
from weightspace.hyperrep.hyperrep import MODEL_NAME
from weightspace.images.image_set import write_image_set
from weightspace.record import RECORD_NAME, read_record, write_record
from weightspace.weights.weight_data import write_weight_data

CONFIG = configure_embeddings()


@pytest.fixture
def study(tmp_path):
    data = make_data(12)
    writers = {
        "weights/w": lambda folder: write_weight_data(folder, data),
        "hyperrep/h": build_untrained().save,
        "images/i": lambda folder: write_image_set(folder, build_image_set()),
    }
    for place, write in writers.items():
        folder = tmp_path / "data" / place
        folder.mkdir(parents=True)
        write(folder)
        write_record(folder, *place.split("/"), NoConfig(), {})
    return tmp_path


def test_embeddings_are_written_with_a_record_of_their_inputs(study):
    make_embeddings("e", CONFIG, study)
    folder = study / "data/embeddings/e"
    made = read_record(folder)
    assert made.stage == "embeddings"
    assert made.inputs == {
        f"{stage}/{name}": read_record(study / "data" / stage / name).digest
        for stage, name in (("weights", "w"), ("hyperrep", "h"))
    }
    wanted = make_data(12).checkpoints.table
    embeddings = read_embeddings(folder)
    assert embeddings.table.drop(columns="reconstruction_error").equals(wanted)
    errors = read_reconstruction(folder)
    assert len(errors[(errors["method"] == "hyperrep") & (errors["layer"] == "all")]) == len(wanted)


def test_networks_that_run_on_images_make_those_an_input(study):
    make_embeddings("e", CONFIG.model_copy(update={"images": "i", "kept_networks": 2}), study)
    folder = study / "data/embeddings/e"
    assert "images/i" in read_record(folder).inputs
    kept = pd.read_parquet(folder / KEPT_NAME)
    assert kept.groupby(["method", "split"]).size().to_dict() == {
        (method, split): 2 for method in ("hyperrep", "pca") for split in ("test", "train")
    }


def test_same_inputs_give_the_same_bytes(study):
    for name in ("e", "again"):
        make_embeddings(name, CONFIG, study)
    files = [read_record(study / "data/embeddings" / name).files for name in ("e", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize("stage", ["weights", "hyperrep"])
def test_a_missing_input_is_named(study, stage):
    with pytest.raises(BadInput, match=f"data/{stage}/other: no {RECORD_NAME}"):
        make_embeddings("e", CONFIG.model_copy(update={stage: "other"}), study)


def test_a_truncated_model_is_named(study):
    path = study / "data/hyperrep/h" / MODEL_NAME
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=MODEL_NAME):
        make_embeddings("e", CONFIG, study)
    assert not (study / "data/embeddings/e").exists()


def test_what_was_embedded_before_a_kill_is_not_embedded_again(study, monkeypatch):
    config = CONFIG.model_copy(update={"networks_at_once": 4})
    make_embeddings("whole", config, study)
    monkeypatch.setattr(embed, "PART_NETWORKS", 9)
    tasks_embeddings.load_embedders.cache_clear()
    write, written = tasks_embeddings.write_part, []

    def die_at_the_third(path, part):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(part.latents))
        write(path, part)

    monkeypatch.setattr(tasks_embeddings, "write_part", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_embeddings("cut", config, study)
    monkeypatch.setattr(
        tasks_embeddings, "write_part", lambda path, part: written.append(len(part.latents)) or write(path, part)
    )
    make_embeddings("cut", config, study)
    num = len(read_embeddings(study / "data/embeddings/whole").table)
    assert num > 16
    assert written == [8] * (num // 8) + [num % 8] * bool(num % 8)
    files = [read_record(study / "data/embeddings" / name).files for name in ("whole", "cut")]
    assert files[0] == files[1]


@pytest.mark.parametrize(("stage", "place"), [("weights", 6), ("hyperrep", 7)])
def test_a_worker_that_sees_other_inputs_refuses(study, stage, place):
    def mistake_an_input(function, calls):
        function(*("0" * 64 if number == place else said for number, said in enumerate(calls[0])))

    with pytest.raises(BadInput, match=rf"{stage} [0-9a-f]{{12}} here, wanted 000000000000: all workers"):
        make_embeddings("e", CONFIG, study, mistake_an_input)


@pytest.mark.lab
def test_other_processes_make_the_same_bytes(study, run_elsewhere):
    make_embeddings("here", CONFIG, study)
    make_embeddings("there", CONFIG, study, run_elsewhere)
    files = [read_record(study / "data/embeddings" / name).files for name in ("here", "there")]
    assert files[0] == files[1]


def test_parts_of_other_code_are_not_taken_up(study, monkeypatch):
    original, made = tasks_embeddings.write_part, []
    monkeypatch.setattr(tasks_embeddings, "write_part", lambda *said: made.append(said) or original(*said))
    for code, num in (("this", 1), ("this", 1), ("other", 2)):
        monkeypatch.setattr(record, "digest_code", lambda code=code: code)
        make_embeddings("again", CONFIG, study)
        assert len(made) == num
