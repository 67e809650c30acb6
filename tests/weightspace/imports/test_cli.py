import shutil
import subprocess
import sys

import pytest
from safetensors.torch import save_file

from weightspace import cli
from weightspace.record import read_record


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Give a function that runs a command line in the temporary folder; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["weightspace", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


def test_import_writes_a_zoo_and_says_what_came_of_it(tmp_path, call, write_run):
    write_run(tmp_path / "src/a")
    status, out, _ = call("import", "src", "--format", "modelzoo", "--out", "data/zoo/mine")
    assert status == 0
    assert "cnn_s, 1 members, 3 checkpoints" in out
    assert "nothing could be proved" in out
    assert read_record(tmp_path / "data/zoo/mine").name == "mine"


def test_info_tells_members_layout_and_origin(tmp_path, call, write_run):
    write_run(tmp_path / "src/a", "cnn_s_dropout")
    call("import", "src", "--format", "modelzoo", "--out", "mine")
    status, out, _ = call("info", "mine")
    assert status == 0
    for text in (
        "zoo mine",
        "cnn_s, 2,464 weights in 5 layers",
        "0 to 2, 3 of them",
        "conv1.weight",
        "8:p0 1:- 5:- 5:-",
    ):
        assert text in out
    assert "modelzoo from src" in out
    assert "intact     yes" in out


def test_info_tells_a_damaged_data_set(tmp_path, call, write_run):
    write_run(tmp_path / "src/a")
    call("import", "src", "--format", "modelzoo", "--out", "mine")
    path = tmp_path / "mine/part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = call("info", "mine")
    assert status == 2
    assert "intact     NO" in out
    assert err.count("\n") == 1
    assert "part-00000.parquet" in err


def test_info_tells_a_data_set_with_a_part_that_its_record_does_not_list(tmp_path, call, write_run):
    write_run(tmp_path / "src/a")
    call("import", "src", "--format", "modelzoo", "--out", "mine")
    shutil.copyfile(tmp_path / "mine/part-00000.parquet", tmp_path / "mine/part-00001.parquet")
    status, out, err = call("info", "mine")
    assert status == 2
    assert "intact     NO" in out
    assert "mine/part-00001.parquet: not in the record beside it" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nowhere", "--format", "modelzoo", "--out", "x"), "nowhere: missing"),
        (("import", "src", "--format", "zoo", "--out", "x"), "--format: got 'zoo', wanted one of modelzoo"),
        (("import", "src", "--format", "modelzoo", "--chain", "--out", "x"), "--chain: the format modelzoo has no"),
        (("info", "nowhere"), "nowhere: no _record.json there"),
    ],
)
def test_wrong_words_end_in_one_line_and_status_2(call, words, said):
    status, _, err = call(*words)
    assert status == 2
    assert err.startswith(f"weightspace: {said}")
    assert err.count("\n") == 1


def test_folder_with_a_table_is_imported(tmp_path, call, make_state):
    (tmp_path / "src").mkdir()
    save_file(make_state()[0], tmp_path / "src/x.safetensors")
    (tmp_path / "t.csv").write_text("name,test_accuracy\nx,0.5\n")
    words = ("import", "src", "--format", "folder", "--table", "t.csv", "--key", "name", "--out", "mine")
    assert call(*words)[0] == 0
    assert "test_accuracy        0.5" in call("info", "mine")[1]


def test_help_loads_nothing_heavy():
    code = "import sys, weightspace.cli; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
