import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tasks.weights import make_weights
from weightspace.config import BadInput
from weightspace.networks import build_cnn_s, build_layout
from weightspace.record import read_record, write_record
from weightspace.store import Checkpoints, name_part, write_part
from weightspace.weights.config import WeightsConfig
from weightspace.weights.weight_data import read_weight_data

CONFIG = WeightsConfig.model_validate(
    {
        "zoo": "made_up",
        "epochs": {"kind": "list", "epochs": [1]},
        "filters": [],
        "max_abs_weight": 100,
        "split": {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 0},
        "canonical": {"scale": False, "orient": False},
        "alignment": {"kind": "weight_matching", "reference": {"kind": "best"}, "seed": 0, "max_sweeps": 100},
        "standardization": {"kind": "layer"},
    }
)


def write_zoo(study, name, seed=0):
    """Write a zoo of 8 members at 2 epochs."""
    zoo = study / "data/zoo" / name
    zoo.mkdir(parents=True)
    layout = build_layout(build_cnn_s())
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "member": [f"m{i // 2:05d}" for i in range(16)],
            "epoch": np.tile([0, 1], 8),
            "val_accuracy": rng.random(16).astype(np.float32),
            "diverged": False,
        }
    )
    weights = rng.normal(size=(16, layout.num_weights)).astype(np.float32)
    write_part(zoo / name_part(0), Checkpoints(layout, table, weights, {"architecture": {}, "recipe": {"a": 1}}))
    write_record(zoo, "zoo", name, CONFIG, {})


@pytest.fixture
def study(tmp_path):
    """A study's folder with a zoo, `made_up`."""
    write_zoo(tmp_path, "made_up")
    return tmp_path


def test_data_set_is_written_with_its_record(study):
    make_weights("w", CONFIG, study)
    folder = study / "data/weights/w"
    record = read_record(folder)
    assert record.inputs == {"zoo/made_up": read_record(study / "data/zoo/made_up").digest}
    assert set(record.files) == {
        "_alignment.safetensors",
        "part-00000.parquet",
        "_reference.safetensors",
        "_statistics.safetensors",
    }


def test_pandas_reads_the_data_set_with_nothing_of_ours(study):
    make_weights("w", CONFIG, study)
    table = pd.read_parquet(study / "data/weights/w")
    assert set(table["split"]) == {"train", "val", "test"}
    assert len(table["weights"].iloc[0]) == 2464


def test_data_set_says_what_the_zoo_said_and_how_it_was_made(study):
    make_weights("w", CONFIG, study)
    about = read_weight_data(study / "data/weights/w").checkpoints.about
    assert about == {"architecture": {}, "recipe": {"a": 1}, "weights": CONFIG.model_dump(mode="json")}


def test_made_again_it_has_the_same_bytes(study):
    make_weights("w", CONFIG, study)
    digest = read_record(study / "data/weights/w").digest
    make_weights("w", CONFIG, study)
    assert read_record(study / "data/weights/w").digest == digest


def test_part_cut_short_is_refused_and_the_old_data_set_stays(study):
    make_weights("w", CONFIG, study)
    part = study / "data/zoo/made_up" / name_part(0)
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"part-00000\.parquet: \d+ bytes, wanted \d+"):
        make_weights("w", CONFIG, study)
    read_record(study / "data/weights/w")


def test_too_few_members_are_refused_and_the_old_data_set_stays(study):
    make_weights("w", CONFIG, study)
    split = CONFIG.split.model_copy(update={"train": 0.96, "val": 0.02, "test": 0.02})
    with pytest.raises(BadInput, match="of 8 members gives 8 train, 0 val, 0 test"):
        make_weights("w", CONFIG.model_copy(update={"split": split}), study)
    assert {path.name for path in (study / "data/weights").iterdir()} == {"w"}
    read_record(study / "data/weights/w")


def test_missing_zoo_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"data/zoo/made_up: no .*so no finished output"):
        make_weights("w", CONFIG, tmp_path)


def test_record_names_every_zoo(study):
    write_zoo(study, "other", seed=1)
    write_zoo(study, "imported/cnn_s", seed=2)
    (study / "data/zoo/.gitignore").write_text("/made_up")
    make_weights("w", CONFIG.model_copy(update={"zoo": "."}), study)
    inputs = read_record(study / "data/weights/w").inputs
    assert set(inputs) == {"zoo/made_up", "zoo/other", "zoo/imported/cnn_s"}
    assert inputs["zoo/other"] == read_record(study / "data/zoo/other").digest
    table = read_weight_data(study / "data/weights/w").checkpoints.table
    assert set(table["zoo"]) == {"made_up", "other", "imported/cnn_s"}


def test_zoo_that_is_not_finished_is_not_left_out_silently(study):
    (study / "data/zoo/other").mkdir()
    with pytest.raises(BadInput, match=r"data/zoo/other: no .*so no finished output"):
        make_weights("w", CONFIG.model_copy(update={"zoo": "."}), study)


def test_all_zoos_of_a_study_without_any_are_refused(tmp_path):
    with pytest.raises(BadInput, match="data/zoo: holds no zoos"):
        make_weights("w", CONFIG.model_copy(update={"zoo": "."}), tmp_path)


def test_finished_data_set_leaves_no_scratch(study):
    make_weights("w", CONFIG, study)
    assert list((study / "data/.work/weights").iterdir()) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from tasks.weights import make_weights
from weightspace.config import BadInput
from weightspace.weights.config import WeightsConfig
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    make_weights("w", WeightsConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
except BadInput as error:
    print(error)
"""


def test_disk_that_is_full_in_the_middle_of_a_write_leaves_the_old_data_set(study):
    make_weights("w", CONFIG, study)
    before = read_record(study / "data/weights/w")
    changed = CONFIG.model_copy(update={"max_abs_weight": None}).model_dump_json()
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, changed, study], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r".*/data/weights/w: the disk is full \(File too large\); .*\n", found.stdout)
    assert read_record(study / "data/weights/w") == before
    assert [path.name for path in (study / "data/weights").iterdir()] == ["w"]
    make_weights("w", CONFIG, study)
    assert read_record(study / "data/weights/w") == before
