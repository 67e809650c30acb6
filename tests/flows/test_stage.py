"""The door to one stage, opened by hand."""

import json
from pathlib import Path

import pytest

from flows.orchestration.stage import drop_work
from flows.params import PARAMS_NAME
from tasks.parts import locate_work

CHECKOUT = Path(__file__).parents[2]


def test_stage_by_hand_makes_its_output_and_a_note_beside_it(toy):
    result = toy.run("toy.py", "images", "a")
    assert result.returncode == 0
    assert (toy.root / "data/images/a/made").exists()
    note = json.loads((toy.root / "data/.work/runs/images/a.json").read_text())
    assert set(note) == {"stage", "name", "started", "seconds", "peak_rss_bytes", "host", "commit", "device"}
    assert note["peak_rss_bytes"] > 1e6


@pytest.mark.parametrize(("stage", "folder"), [("zoo", "zoo"), ("twins", "zoo"), ("embeddings", "embeddings")])
def test_what_an_entry_keeps_is_dropped_where_its_stage_keeps_it(tmp_path, stage, folder):
    for name in ("a", "b"):
        locate_work(tmp_path, folder, name)
    drop_work(tmp_path, stage, "a")
    assert [path.name for path in (tmp_path / "data/.work" / folder).iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["zz"], "error: params.yaml: images: got 'zz', wanted one of a, b\n"),
        ([], "error: python -m flows.images: got nothing, wanted the name of one entry of images\n"),
        (["a", "b"], "error: python -m flows.images: got a b, wanted the name of one entry of images\n"),
    ],
)
def test_wrong_name_gets_one_line_and_status_2(toy, arguments, wanted):
    result = toy.run("toy.py", "images", *arguments)
    assert (result.returncode, result.stderr) == (2, wanted)


def test_mistyped_key_elsewhere_gets_one_line_and_status_2(toy):
    toy.change("epochs: 1", "epoch: 1")
    result = toy.run("toy.py", "images", "a")
    assert result.returncode == 2
    assert result.stderr.startswith("error: params.yaml: zoo.z.epoch: unknown key")
    assert result.stderr.count("\n") == 1


def test_bad_input_leaves_the_earlier_output(toy):
    toy.run("toy.py", "images", "a")
    before = (toy.root / "data/images/a/made").read_bytes()
    toy.write("bad/images@a")
    assert toy.run("toy.py", "images", "a").returncode == 2
    assert (toy.root / "data/images/a/made").read_bytes() == before


def test_code_of_another_checkout_is_refused(toy):
    toy.change("root: .", "root: other")
    toy.write("other/weightspace/__init__.py")
    toy.write("other/dvc.yaml")
    result = toy.run("toy.py", "images", "a")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {PARAMS_NAME}: root: got other, so DVC watches")
    assert result.stderr.endswith(f"but that in {CHECKOUT} runs, wanted the same: PYTHONPATH={toy.root}/other\n")
    assert not (toy.root / "data").exists()
