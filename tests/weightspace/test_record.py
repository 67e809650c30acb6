import errno
import json
import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from weightspace import record as record_module
from weightspace.config import BadInput, Config
from weightspace.record import RECORD_NAME, digest_code, read_record, replace_folder, write_record


class Recipe(Config):
    value: int


@pytest.fixture
def recorded(tmp_path):
    """An output of two files, with its record."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    for number in range(2):
        (folder / f"part-{number:05d}.parquet").write_bytes(np.random.default_rng(number).bytes(1000))
    write_record(folder, "zoo", "made_up", Recipe(value=1), {})
    return folder


def test_record_of_an_untouched_output_is_accepted(recorded):
    record = read_record(recorded)
    assert record.config == {"value": 1}
    assert set(record.files) == {"part-00000.parquet", "part-00001.parquet"}


def test_record_names_what_it_was_made_from(recorded, tmp_path):
    (tmp_path / "next").mkdir()
    made_from = read_record(recorded)
    record = write_record(tmp_path / "next", "weights", "n", Recipe(value=2), {"zoo": made_from})
    assert record.inputs == {"zoo/made_up": made_from.digest}


def test_part_cut_short_is_named_by_the_record(recorded):
    part = recorded / "part-00001.parquet"
    size = part.stat().st_size
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(BadInput, match=rf"part-00001\.parquet: {size - 1} bytes, wanted {size}"):
        read_record(recorded)


def test_one_altered_bit_is_noticed(recorded):
    part = recorded / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    with pytest.raises(BadInput, match=r"part-00000\.parquet: its content is not what its record lists"):
        read_record(recorded)


def test_missing_part_is_named(recorded):
    (recorded / "part-00000.parquet").unlink()
    with pytest.raises(BadInput, match=r"part-00000\.parquet: missing, though its record lists it"):
        read_record(recorded)


@pytest.mark.parametrize("name", ["part-00002.parquet", "_statistics.safetensors", "plots/one.png"])
def test_file_that_no_record_lists_is_named(recorded, name):
    (recorded / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(recorded / "part-00000.parquet", recorded / name)
    with pytest.raises(BadInput, match=rf"{name}: not in the record beside it, which lists 2 other files; wanted"):
        read_record(recorded)


@pytest.mark.parametrize("name", [".gitignore", ".part-00000.parquet.tmp", ".ipynb_checkpoints/part-00000.parquet"])
def test_hidden_file_that_no_reader_takes_is_let_be(recorded, name):
    (recorded / name).parent.mkdir(exist_ok=True)
    (recorded / name).write_text("/plots")
    assert len(read_record(recorded).files) == 2


def test_output_without_a_record_is_not_finished(tmp_path):
    with pytest.raises(BadInput, match=f"no {RECORD_NAME} there"):
        read_record(tmp_path)


def test_record_says_nothing_of_the_moment(recorded):
    first = (recorded / RECORD_NAME).read_text()
    write_record(recorded, "zoo", "made_up", Recipe(value=1), {})
    assert (recorded / RECORD_NAME).read_text() == first
    assert set(json.loads(first)) == {"stage", "name", "config", "inputs", "libraries", "device", "files"}


def test_new_folder_takes_the_place_of_the_old(tmp_path):
    target = tmp_path / "out"
    for text in ("old", "new"):
        with replace_folder(target) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failure_leaves_the_old_folder_as_it_was(tmp_path):
    target = tmp_path / "out"
    with replace_folder(target) as folder:
        (folder / "old").write_text("old")

    def fail():
        with replace_folder(target) as folder:
            (folder / "half").write_text("half")
            raise OSError("something else")

    with pytest.raises(OSError, match="something else"):
        fail()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@contextmanager
def limit_files(size):
    """Let no file grow beyond some bytes, as on a full disk; Python ignores the signal that goes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "parquet": lambda folder: pq.write_table(pa.table({"a": np.random.default_rng(0).random(10_000)}), folder / "a"),
    "safetensors": lambda folder: save_file({"a": torch.zeros(10_000)}, folder / "a.safetensors"),
    "text": lambda folder: (folder / "a.txt").write_text("a" * 10_000),
}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_full_disk_leaves_the_old_folder_as_it_was(tmp_path, kind):
    target = tmp_path / "out"
    with replace_folder(target) as folder:
        (folder / "old").write_text("old")
    with (
        limit_files(1000),
        pytest.raises(BadInput, match=r"/out: the disk is full \(File too large\); nothing new was kept"),
        replace_folder(target) as folder,
    ):
        WRITERS[kind](folder)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_want_of_room_in_any_form_is_a_full_disk(tmp_path, number):
    with pytest.raises(BadInput, match="the disk is full"), replace_folder(tmp_path / "out"):
        raise OSError(number, "no room")


def test_killed_writer_leaves_the_old_folder_and_the_next_one_clears_up(tmp_path):
    target = tmp_path / "out"
    with replace_folder(target) as folder:
        (folder / "old").write_text("old")
    half = tmp_path / ".out.999999999"  # no process has this number
    half.mkdir()
    (tmp_path / ".out.other.999999999").mkdir()
    assert [path.name for path in target.iterdir()] == ["old"]
    with replace_folder(target) as folder:
        assert not half.exists()
        (folder / "new").write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.other.999999999"}


def test_code_digest_changes_with_the_code_and_with_a_library(tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "weightspace").mkdir()
    monkeypatch.setattr(record_module, "__file__", str(tmp_path / "weightspace/record.py"))
    digests = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "weightspace/x.py").write_text(text)
        digests.append(digest_code.__wrapped__())
    (tmp_path / "weightspace/x.py").rename(tmp_path / "weightspace/y.py")
    digests.append(digest_code.__wrapped__())
    monkeypatch.setattr(record_module, "version", lambda library: "0")
    digests.append(digest_code.__wrapped__())
    assert len(set(digests)) == 4
