"""The benchmark's own checkout, and what runs in it."""

import json
import subprocess

import pytest

from flows.orchestration.measuring import MeasuringFailed, find_commit, measure, prepare_checkout
from weightspace.config import BadInput

# Stands for the benchmarks of a commit: says how it was called, and ends as a file in the checkout asks.
RERUN = """
import json, os, sys, time
from pathlib import Path
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("called", sys.argv[1], given["--suite"])
print(sorted(name for name in os.environ if name.startswith(("PREFECT_API", "DVC_STAGE"))))
time.sleep(float(Path("sleep").read_text()) if Path("sleep").exists() else 0)
worse = Path("params.yaml").read_text().split()
figures = {"a": 1.0}
if worse != ["broken"]:
    Path(given["--json"]).write_text(json.dumps({"figures": figures, "verdicts": [], "worse": worse}))
sys.exit(1 if worse == ["broken"] else 3 if worse else 0)
"""


@pytest.fixture
def ours(toy):
    toy.write(".dvc/config.local")
    toy.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    toy.write(".gitignore", "/data/\n/.prefect/\n")
    toy.write("benchmarks/__init__.py")
    toy.write("benchmarks/__main__.py", RERUN)
    toy.write("params.yaml", "")
    git(toy.root, "init", "--quiet", "--initial-branch", "main")
    commit(toy.root)
    return toy


def git(folder, *arguments):
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "a")


def test_checkout_has_the_commit_and_our_cache_and_leaves_our_work_alone(ours):
    folder = ours.root / ".prefect/benchmark/checkout"
    ours.write("params.yaml", "work in progress")
    made = prepare_checkout(ours.root, folder, "HEAD")
    assert made == find_commit(ours.root, "main")
    assert (folder / "params.yaml").read_text() == ""
    (folder / "params.yaml").write_text("changed by a benchmark")
    (folder / "left.txt").write_text("by a benchmark")
    (folder / "data").mkdir()
    (folder / "data/made").write_text("an output")
    commit(ours.root)
    later = prepare_checkout(ours.root, folder, "main")
    assert later != made
    assert (folder / "params.yaml").read_text() == "work in progress"
    assert not (folder / "left.txt").exists()
    assert (folder / "data/made").exists()
    told = subprocess.run(["git", "-C", str(ours.root), "status", "--short"], capture_output=True, text=True)
    assert told.stdout == ""
    config = (folder / ".dvc/config.local").read_text()
    assert str((ours.root / ".dvc/cache").resolve()) in config


def test_commit_that_is_not_there_and_folder_that_is_taken_are_refused(ours, tmp_path):
    with pytest.raises(BadInput, match="revision: got 'nowhere', wanted a commit of a git repository"):
        prepare_checkout(ours.root, tmp_path / "new", "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(BadInput, match="holds something that is no checkout"):
        prepare_checkout(ours.root, tmp_path / "mine", "HEAD")


def test_what_got_worse_is_told_and_the_run_takes_no_part_in_ours(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    lines: list[str] = []
    ours.write("params.yaml", "slow_s")
    measured = measure(ours.root, "full", tmp_path / "history", 600.0, lines.append)
    assert measured == {"figures": {"a": 1.0}, "verdicts": [], "worse": ["slow_s"]}
    assert lines == ["called rerun full", "[]"]
    assert json.loads((tmp_path / "history/rerun.json").read_text()) == measured


def test_broken_and_slow_benchmarks_are_no_result(ours, tmp_path):
    ours.write("params.yaml", "broken")
    with pytest.raises(MeasuringFailed, match="ended with status 1: called rerun quick"):
        measure(ours.root, "quick", tmp_path / "history", 600.0, print)
    ours.write("sleep", "60")
    with pytest.raises(TimeoutError, match="took longer than"):
        measure(ours.root, "quick", tmp_path / "history", 1.0, print)
