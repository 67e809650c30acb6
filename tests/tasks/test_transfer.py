import pandas as pd
import pytest

from tasks import samples as tasks_samples
from tasks.samples import make_samples
from tasks.transfer import make_transfer
from tests.weightspace.samples.small_study import SmallHyperrep, make_samples_config, write_inputs
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
