"""What is written into `dvc.lock` a stage at a time, against what DVC writes."""

import shutil

import pytest
from dvc.dvcfile import Lockfile
from dvc.repo import Repo

from flows.orchestration.dvc_child import HEADER, dump_stages, note_stages, split_stages


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Where the first test that makes all results leaves them for the others."""
    return tmp_path_factory.mktemp("results") / "toy"


@pytest.fixture
def made(toy, results, monkeypatch):
    """A toy project with all its results, its folder's repository, and its stages as they are."""
    monkeypatch.chdir(toy.root)
    # Values that a writer of YAML has to take care of.
    toy.write("more.yaml", f'digits: "12345e67"\nwords: "{"many words: " * 12}"\nnothing: null\nsmall: 1.0e-9\n')
    graph = (toy.root / "dvc.yaml").read_text()
    params = 'params: ["zoo.${key}", {more.yaml: [digits, words, nothing, small]}]'
    toy.write("dvc.yaml", graph.replace('params: ["zoo.${key}"]', params))
    if not results.exists():
        assert toy.dvc("repro").returncode == 0
        shutil.copytree(toy.root, results)
    shutil.copytree(results, toy.root, dirs_exist_ok=True)
    with Repo() as repository, repository.lock:
        yield toy, repository, {stage.addressing: stage for stage in repository.stage.collect()}


def note_both(made, names):
    """Note some stages by DVC and by us, from the same file on; say what each wrote."""
    toy, repository, stages = made
    path = toy.root / "dvc.lock"
    before, written = path.read_text(), []
    for note in (dump_stages, note_stages):
        path.write_text(before)
        note(Lockfile(repository, str(path)), [stages[name] for name in names])
        written.append(path.read_text())
    return written


@pytest.mark.parametrize("names", [["zoo@z"], ["images@a", "images@b", "zoo@z"], []])
@pytest.mark.parametrize("edit", ["none", "changed", "missing"])
def test_lines_of_a_stage_are_those_that_dvc_writes(made, names, edit):
    path = made[0].root / "dvc.lock"
    text = path.read_text()
    if edit == "changed":
        path.write_text(text.replace("size: ", "size: 1"))
    if edit == "missing":
        first, *rest = split_stages(text).items()
        path.write_text("".join([*HEADER, *(name + lines for name, lines in rest)]))
        assert first[0] not in path.read_text()
    by_dvc, by_us = note_both(made, names)
    assert by_us == by_dvc
    assert (by_us == path.read_text() == text) == (edit == "none" or (edit == "changed" and len(names) == 3))
    assert list(made[0].root.glob("dvc.lock.*")) == []


@pytest.mark.parametrize(
    "text",
    [
        "schema: '2.0'\n",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: b",
        "schema: '2.0'\nstages:\n  a: {cmd: b}\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: b\ndatasets:\n- name: c\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: b\n  a:\n    cmd: c\n",
        "stages:\n  a:\n    cmd: b\nschema: '2.0'\n",
        "# mine\nschema: '2.0'\nstages:\n  a:\n    cmd: b\n",
        "schema: '2.0'\nstages:\n    cmd: b\n",
    ],
)
def test_a_file_laid_out_otherwise_is_left_to_dvc(made, text):
    assert split_stages(text) is None
    made[0].write("dvc.lock", "schema: '2.0'\nstages: {}\n")
    by_dvc, by_us = note_both(made, ["zoo@z"])
    assert by_us == by_dvc
    assert split_stages(by_us) is not None


def test_a_failed_write_leaves_the_file_as_it_was(made, monkeypatch):
    toy, repository, stages = made
    path = toy.root / "dvc.lock"
    path.write_text(path.read_text().replace("size: ", "size: 1"))
    before = path.read_text()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        note_stages(Lockfile(repository, str(path)), [stages["zoo@z"]])
    assert path.read_text() == before
    assert list(toy.root.glob("dvc.lock.*")) == []
