import errno
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from weightspace.config import BadInput
from weightspace.imports import source, writer
from weightspace.imports.build import REPORT_NAME
from weightspace.imports.runs import Spot, place_hub
from weightspace.networks import build_cnn_s, build_layout
from weightspace.record import read_record
from weightspace.store import list_parts, read_checkpoints


def rows_of(folder):
    """Return each checkpoint's weights by member and epoch."""
    zoo = read_checkpoints(folder)
    places = zip(zoo.table["member"], zoo.table["epoch"], strict=True)
    return {place: zoo.weights[i] for i, place in enumerate(places)}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for place, vector in wanted.items():
        assert found[place].tobytes() == vector.tobytes(), place


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("pattern", ["cnn_s", "cnn_s_dropout", "cnn_l"])
def test_weights_come_back_bit_for_bit(tmp_path, read, write_run, pattern, padded, offset):
    wanted = {}
    for seed in range(3):
        vectors = write_run(tmp_path / f"src/run{seed}", pattern, seed, padded=padded, offset=offset)
        wanted |= {(f"run{seed}", epoch): vector for epoch, vector in vectors.items()}
    [report] = read(tmp_path, "modelzoo")
    assert_same(rows_of(tmp_path / "zoo"), wanted)
    assert report["epoch_offset"] == offset
    assert report["network"] == pattern.removesuffix("_dropout")


@pytest.mark.parametrize("archive", ["src.zip", "src.tar", "src.tar.gz"])
def test_archives_give_what_the_folder_gives(tmp_path, read, write_run, pack, archive):
    vectors = {seed: write_run(tmp_path / f"zoo_raw/run{seed}", seed=seed) for seed in range(3)}
    (tmp_path / "zoo_raw/config.json").write_text("{}")
    read(tmp_path, "modelzoo", pack(tmp_path / "zoo_raw", archive))
    wanted = {(f"run{seed}", epoch): vector for seed, some in vectors.items() for epoch, vector in some.items()}
    assert_same(rows_of(tmp_path / "zoo"), wanted)


def test_zoo_of_both_index_patterns_is_one_architecture(tmp_path, read, write_run):
    write_run(tmp_path / "src/a", "cnn_s")
    write_run(tmp_path / "src/b", "cnn_s_dropout", 1)
    read(tmp_path, "modelzoo")
    assert read_checkpoints(tmp_path / "zoo").layout == build_layout(build_cnn_s())


def test_table_has_the_columns_of_a_zoo_of_our_own(tmp_path, read, write_run):
    write_run(tmp_path / "src/a", "cnn_s_dropout", 7)
    read(tmp_path, "modelzoo")
    table = pd.read_parquet(tmp_path / "zoo")
    assert table["train_accuracy"].dtype == np.float32
    assert table["generalization_gap"].equals(table["train_accuracy"] - table["test_accuracy"])
    assert table["test_accuracy"].tolist() == pytest.approx([0.0, 0.005, 0.01])
    assert table["val_accuracy"].isna().all()
    first = table.iloc[0]
    assert (first["seed"], first["activation"], first["optimizer"], first["init"]) == (7, "tanh", "rmsprop", "uniform")
    assert (first["lr"], first["weight_decay"], first["dropout"]) == (3e-4, 0.0, 0.5)
    assert table["train_fraction"].isna().all()
    read_record(tmp_path / "zoo")


@pytest.mark.parametrize("offset", [0, 1])
def test_missing_last_metrics_are_told_and_left_open(tmp_path, read, write_run, offset):
    write_run(tmp_path / "src/a", metrics=(0, 1), offset=offset)
    [report] = read(tmp_path, "modelzoo")
    table = pd.read_parquet(tmp_path / "zoo").sort_values("epoch")
    assert table["test_loss"].isna().tolist() == [False, False, True]
    assert not table["diverged"].any()
    assert report["last_without_metrics"] == ["a"]


def test_broken_last_line_counts_as_missing(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    path = tmp_path / "src/a/result.json"
    path.write_text(path.read_text()[:-20])
    [report] = read(tmp_path, "modelzoo")
    assert report["last_without_metrics"] == ["a"]


def test_broken_line_in_the_middle_is_refused(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    path = tmp_path / "src/a/result.json"
    path.write_text(path.read_text().replace('{"training_iteration": 1', '{"training_iteration'))
    with pytest.raises(BadInput, match=r"a/result\.json: line 2 is not JSON"):
        read(tmp_path, "modelzoo")


@pytest.mark.parametrize("metrics", [(5, 6, 7), (0,), (2, 3, 4)])
def test_metrics_that_cannot_be_joined_say_the_offsets(tmp_path, read, write_run, metrics):
    write_run(tmp_path / "src/a", metrics=metrics)
    with pytest.raises(BadInput, match=r"a: 3 checkpoints 0 to 2, .*offset 0 leaves \d without.*offset 1 leaves \d"):
        read(tmp_path, "modelzoo")
    assert not (tmp_path / "zoo").exists()


def test_offset_that_both_fit_must_be_said(tmp_path, read, write_run):
    write_run(tmp_path / "src/a", epochs=(21, 22, 23), metrics=range(51))
    with pytest.raises(BadInput, match="say it as epoch_offset"):
        read(tmp_path, "modelzoo")
    [report] = read(tmp_path, "modelzoo", epoch_offset=1)
    assert report["epoch_offset"] == 1
    assert pd.read_parquet(tmp_path / "zoo")["train_accuracy"].tolist() == pytest.approx([0.22, 0.23, 0.24])


def test_members_of_different_offsets_are_refused(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    write_run(tmp_path / "src/b", seed=1, offset=1)
    with pytest.raises(BadInput, match=r"b: .*offset 1, those of a with 0"):
        read(tmp_path, "modelzoo")


@pytest.mark.parametrize("where", ["weights", "loss"])
def test_member_with_nan_stays_marked(tmp_path, read, write_run, make_state, where):
    write_run(tmp_path / "src/a")
    state, vector = make_state()
    if where == "weights":
        state["module_list.0.bias"][0] = torch.nan
    write_run(tmp_path / "src/b", first=(state, vector))
    if where == "loss":
        path = tmp_path / "src/b/result.json"
        path.write_text(path.read_text().replace('"test_loss": 2.0', '"test_loss": NaN'))
    [report] = read(tmp_path, "modelzoo")
    table = pd.read_parquet(tmp_path / "zoo")
    assert set(table.loc[table["diverged"], "member"]) == {"b"}
    assert report["diverged_members"] == ["b"]


def test_mixed_architectures_are_refused_by_name(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    write_run(tmp_path / "src/b", "cnn_l")
    with pytest.raises(BadInput, match=r"b is cnn_l .*, a is cnn_s .*mixed: split"):
        read(tmp_path, "modelzoo")
    assert not (tmp_path / "zoo").exists()


def test_mixed_architectures_become_a_zoo_each(tmp_path, read, write_run):
    small = write_run(tmp_path / "src/a")
    large = write_run(tmp_path / "src/b", "cnn_l")
    reports = read(tmp_path, "modelzoo", mixed="split")
    assert [report["network"] for report in reports] == ["cnn_s", "cnn_l"]
    assert_same(rows_of(tmp_path / "zoo/cnn_s"), {("a", e): vector for e, vector in small.items()})
    assert_same(rows_of(tmp_path / "zoo/cnn_l"), {("b", e): vector for e, vector in large.items()})
    assert read_record(tmp_path / "zoo/cnn_l").name == "zoo/cnn_l"


def test_failed_import_leaves_the_old_zoo(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    read(tmp_path, "modelzoo")
    before = {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()}
    path = tmp_path / "src/a/checkpoint_000002/checkpoints"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"a/checkpoint_000002/checkpoints: .*cut short"):
        read(tmp_path, "modelzoo")
    assert {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".zoo")] == []


def test_same_source_gives_the_same_bytes(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    read(tmp_path, "modelzoo")
    first = {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()}
    read(tmp_path, "modelzoo")
    assert {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()} == first


def test_parts_are_of_bounded_size(tmp_path, read, write_run, monkeypatch):
    wanted = {}
    for seed, pattern in enumerate(("cnn_s", "cnn_l", "cnn_s")):
        for epoch, vector in write_run(tmp_path / f"src/run{seed}", pattern, seed).items():
            wanted.setdefault(pattern, {})[f"run{seed}", epoch] = vector
    monkeypatch.setattr(writer, "PART_BYTES", 30_000)
    read(tmp_path, "modelzoo", mixed="split")
    for pattern, vectors in wanted.items():
        assert_same(rows_of(tmp_path / "zoo" / pattern), vectors)
        assert len(list_parts(tmp_path / "zoo" / pattern)) > 1


def test_large_files_of_a_tar_wait_on_disk(tmp_path, read, write_run, pack, monkeypatch):
    vectors = write_run(tmp_path / "raw/a")
    monkeypatch.setattr(source, "SPOOL_BYTES", 100)
    read(tmp_path, "modelzoo", pack(tmp_path / "raw", "src.tar"))
    assert_same(rows_of(tmp_path / "zoo"), {("a", epoch): vector for epoch, vector in vectors.items()})


def test_full_disk_is_one_clear_error(tmp_path, read, write_run, monkeypatch):
    write_run(tmp_path / "src/a")
    read(tmp_path, "modelzoo")
    before = {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()}

    def fail(path, checkpoints, ragged):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_part", fail)
    with pytest.raises(BadInput, match="zoo: the disk is full"):
        read(tmp_path, "modelzoo")
    assert {path.name: path.read_bytes() for path in (tmp_path / "zoo").iterdir()} == before
    assert not list(tmp_path.glob(".zoo*"))


def test_phase_transition_keeps_annotations_that_are_asked_for(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    path = tmp_path / "src/a/result.json"
    lines = [json.loads(line) | {"hessian_trace": 10.0 + i} for i, line in enumerate(path.read_text().splitlines())]
    path.write_text("\n".join(map(json.dumps, lines)))
    read(tmp_path, "phase_transition", columns=("hessian_trace",))
    assert sorted(pd.read_parquet(tmp_path / "zoo")["hessian_trace"]) == [10.0, 11.0, 12.0]


def test_column_that_is_nowhere_is_refused(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    with pytest.raises(BadInput, match="columns: 'trace' is in no member's metrics"):
        read(tmp_path, "phase_transition", columns=("trace",))


def test_folder_that_is_no_zoo_is_never_replaced(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="zoo: is there and is no zoo"):
        read(tmp_path, "modelzoo")
    assert (tmp_path / "zoo/thesis.txt").read_text() == "years of work"


def test_zoo_is_not_written_over_its_source(tmp_path, read, write_run):
    write_run(tmp_path / "zoo/src/a")
    with pytest.raises(BadInput, match="zoo: holds what is to be imported"):
        read(tmp_path, "modelzoo", "zoo/src")


def test_progress_csv_serves_where_there_is_no_result_json(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    (tmp_path / "src/a/result.json").unlink()
    (tmp_path / "src/a/progress.csv").write_text("training_iteration,test_acc\n0,0.1\n1,0.2\n2,0.")
    read(tmp_path, "modelzoo")
    assert sorted(pd.read_parquet(tmp_path / "zoo")["test_accuracy"]) == pytest.approx([0.0, 0.1, 0.2])


def test_accuracy_in_percent_is_refused(tmp_path, read, write_run):
    write_run(tmp_path / "src/a", epochs=(0, 1, 300))
    with pytest.raises(BadInput, match=r"a: train_acc is 3\.0, wanted a share"):
        read(tmp_path, "modelzoo")


def test_sparse_twin_becomes_the_network_it_stands_for(tmp_path, read, write_run, make_state):
    state, vector = make_state()
    kept = torch.zeros(len(vector), dtype=torch.bool)
    kept[::2] = True
    twin, start = dict(state), 0
    for name, tensor in state.items():
        keep = kept[start : start + tensor.numel()].reshape(tensor.shape)
        key = name.replace("weight", "log_sigma2").replace("bias", "log_sigma2_bias")
        twin[key] = 2 * tensor.abs().log() + torch.where(keep, 2.9, 3.1)
        start += tensor.numel()
    write_run(tmp_path / "src/a", epochs=(0,), first=(twin, vector))
    with pytest.raises(BadInput, match="sparse twin"):
        read(tmp_path, "modelzoo")
    read(tmp_path, "modelzoo", log_sigma2="threshold")
    assert (rows_of(tmp_path / "zoo")["a", 0] == np.where(kept.numpy(), vector, 0)).all()


def test_hub_folders_of_safetensors_are_members(tmp_path, read, make_state):
    wanted = {}
    for member in ("x", "y"):
        for step in (5, 10):
            folder = tmp_path / f"src/{member}/checkpoint-{step}"
            folder.mkdir(parents=True)
            state, wanted[member, step] = make_state(seed=step)
            save_file(state, folder / "model.safetensors")
            (folder / "optimizer.pt").write_bytes(b"not for us")
        (tmp_path / f"src/{member}/config.json").write_text('{"seed": 3, "model::nlin": "gelu"}')
    read(tmp_path, "huggingface")
    assert_same(rows_of(tmp_path / "zoo"), wanted)
    assert set(pd.read_parquet(tmp_path / "zoo")["seed"]) == {3}


def test_weightclip_folders_are_read_as_they_were_written(tmp_path, read, write_run):
    vectors = write_run(tmp_path / "src/pets/run7", "cnn_l", epochs=(30, 31), offset=0)
    [report] = read(tmp_path, "weightclip", "src")
    assert_same(rows_of(tmp_path / "zoo"), {("run7", epoch): vector for epoch, vector in vectors.items()})
    assert report["network"] == "cnn_l"


@pytest.mark.parametrize(
    ("name", "spot"),
    [
        ("x/model.safetensors", Spot("x", 0)),
        ("x/net_epoch3.pt", Spot("x/net", 3)),
        ("x/checkpoint-500/pytorch_model.bin", Spot("x", 500)),
        ("sheep12.pt", Spot("sheep12", 0)),
        ("x/checkpoint-500/optimizer.pt", None),
        ("x/config.json", Spot("x", None)),
        ("x/readme.md", None),
    ],
)
def test_hub_names_tell_member_and_checkpoint(name, spot):
    assert place_hub(name) == spot


def test_weights_in_several_files_are_put_together(tmp_path, read, make_state):
    state, vector = make_state()
    (tmp_path / "src/x").mkdir(parents=True)
    names = list(state)
    save_file({name: state[name] for name in names[:4]}, tmp_path / "src/x/model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[4:]}, tmp_path / "src/x/model-00002-of-00002.safetensors")
    read(tmp_path, "huggingface")
    assert_same(rows_of(tmp_path / "zoo"), {("x", 0): vector})


def test_tar_whose_members_stand_apart_is_refused(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    write_run(tmp_path / "src/b", seed=1)
    with tarfile.open(tmp_path / "src.tar", "w") as archive:
        for name in ("a/result.json", "a/checkpoint_000000", "b", "a/checkpoint_000001"):
            archive.add(tmp_path / "src" / name, arcname=name)
    with pytest.raises(BadInput, match=r"src\.tar: the files of a stand apart"):
        read(tmp_path, "modelzoo", "src.tar")


def test_report_lies_hidden_from_table_readers(tmp_path, read, write_run):
    write_run(tmp_path / "src/a")
    [report] = read(tmp_path, "modelzoo")
    assert json.loads((tmp_path / "zoo" / REPORT_NAME).read_text()) == report
    assert len(pd.read_parquet(tmp_path / "zoo")) == 3
