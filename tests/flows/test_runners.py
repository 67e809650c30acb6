"""The setting that says where the parts of a stage run."""

import pytest

from flows.orchestration.runners import FILE_VARIABLE, Here, Threads, read_runner
from weightspace.config import BadInput


@pytest.fixture
def checkout_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "studies/a").mkdir(parents=True)
    return tmp_path


def test_without_a_file_parts_run_here(checkout_folder):
    assert read_runner(checkout_folder) == Here(kind="here")


def test_file_of_the_checkout_holds_for_its_studies(checkout_folder):
    (checkout_folder / "runner.toml").write_text('kind = "threads"\nnum_workers = 2\n')
    assert read_runner(checkout_folder / "studies/a") == Threads(kind="threads", num_workers=2)


def test_environment_names_another_file(checkout_folder, monkeypatch):
    (checkout_folder / "runner.toml").write_text('kind = "threads"\nnum_workers = 2\n')
    (checkout_folder / "other.toml").write_text('kind = "here"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(checkout_folder / "other.toml"))
    assert read_runner(checkout_folder) == Here(kind="here")


def test_file_that_is_named_and_not_there_is_an_error(checkout_folder, monkeypatch):
    monkeypatch.setenv(FILE_VARIABLE, str(checkout_folder / "none.toml"))
    with pytest.raises(BadInput, match=r"none\.toml"):
        read_runner(checkout_folder)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('kind = "slurm"', "'here', 'threads', 'processes', 'dask', 'ray'"),
        ('kind = "here"\nnum_workers = 2', "num_workers: got 2"),
        ('kind = "threads"', "num_workers: got none, wanted how many"),
        ('kind = "threads"\nnum_workers = 0', "num_workers: got 0"),
        ('kind = "threads"\nnum_workers = 2\ngpus_per_worker = 1', "gpus_per_worker: got 1"),
        ('kind = "processes"\nnum_worker = 2', "num_worker: got 2"),
        ('kind = "processes"\nnum_workers = 2\naddress = "tcp://a:1"', "address: got 'tcp://a:1'"),
        ('kind = "dask"', "num_workers: got none"),
        ('kind = "dask"\naddress = "tcp://a:1"\nnum_workers = 2', "num_workers: got 2, but the cluster at tcp://a:1"),
        ('kind = "ray"\naddress = "a:1"', "threads_per_worker: got none"),
        ("kind = here", r"runner\.toml: Invalid value"),
        ("", "kind"),
    ],
)
def test_wrong_setting_is_refused_in_one_line(checkout_folder, text, wanted):
    (checkout_folder / "runner.toml").write_text(text)
    with pytest.raises(BadInput, match=wanted) as caught:
        read_runner(checkout_folder)
    assert "runner.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
