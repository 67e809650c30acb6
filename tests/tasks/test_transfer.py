import pandas as pd
import pytest

from tasks import samples as tasks_samples
from tasks import transfer as tasks_transfer
from tasks.samples import make_samples
from tasks.transfer import make_transfer
from tests.weightspace.samples.small_study import SmallHyperrep, make_samples_config, write_inputs
from weightspace import record
from weightspace.config import BadInput
from weightspace.record import read_record
from weightspace.transfer.config import TransferConfig
from weightspace.zoo.training import PROPERTIES

CONFIG = TransferConfig(
    samples="s",
    weights="w",
    images="i",
    rows=("scratch", "members", "kde_joint"),
    num_per_row=2,
    epochs=1,
    optimizer="adam",
    lr=(1e-3,),
    weight_decay=0.0,
    dropout=0.0,
    batch_size=16,
    train_fraction=1.0,
    seed=0,
    engine="torch",
    device="cpu",
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.setattr(tasks_samples, "load_hyperreps", lambda folder, device: {"only": SmallHyperrep()})
    make_samples("s", make_samples_config(), tmp_path)
    return tmp_path


def test_curves_are_written_with_a_record_of_their_inputs(study):
    make_transfer("t", CONFIG, study)
    folder = study / "data/transfer/t"
    assert set(read_record(folder).inputs) == {"samples/s", "weights/w", "images/i"}
    curves = pd.read_parquet(folder / "curves.parquet")
    assert {"row", "sample", "epoch", "diverged", *PROPERTIES} <= set(curves.columns)
    assert len(curves) == 3 * 2 * 2


def test_altered_samples_are_refused(study):
    path = study / "data/samples/s/samples.parquet"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"samples\.parquet: its content is not what its record lists"):
        make_transfer("t", CONFIG, study)


def test_what_was_trained_before_a_kill_is_not_trained_again(study, monkeypatch):
    make_transfer("whole", CONFIG, study)
    monkeypatch.setattr(tasks_transfer, "PART_SIZE", 2)
    train, trained = tasks_transfer.train_runs, []

    def die_at_the_second(*arguments):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(len(arguments[3]))
        return train(*arguments)

    monkeypatch.setattr(tasks_transfer, "train_runs", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_transfer("cut", CONFIG, study)
    monkeypatch.setattr(tasks_transfer, "train_runs", lambda *said: trained.append(len(said[3])) or train(*said))
    make_transfer("cut", CONFIG, study)
    assert trained == [2, 2, 2]
    cut, whole = (pd.read_parquet(study / f"data/transfer/{name}/curves.parquet") for name in ("cut", "whole"))
    pd.testing.assert_frame_equal(cut, whole, rtol=1e-4)


def test_a_worker_that_sees_other_inputs_refuses(study):
    def alter_samples(function, calls):
        path, cut, config, sources, digests, device = calls[0]
        function(path, cut, config, sources, {**digests, "samples": "0" * 64}, device)

    with pytest.raises(BadInput, match=r"samples [0-9a-f]{12} here, wanted 000000000000: all workers"):
        make_transfer("t", CONFIG, study, alter_samples)


@pytest.mark.lab
def test_other_processes_make_the_same_bytes(study, run_elsewhere):
    make_transfer("here", CONFIG, study)
    make_transfer("there", CONFIG, study, run_elsewhere)
    files = [read_record(study / "data/transfer" / name).files for name in ("here", "there")]
    assert files[0] == files[1]


def test_parts_of_other_code_are_not_taken_up(study, monkeypatch):
    original, made = tasks_transfer.train_runs, []
    monkeypatch.setattr(tasks_transfer, "train_runs", lambda *said: made.append(said) or original(*said))
    for code, num in (("this", 1), ("this", 1), ("other", 2)):
        monkeypatch.setattr(record, "digest_code", lambda code=code: code)
        make_transfer("again", CONFIG, study)
        assert len(made) == num
