import collections
import contextlib
import json
import pathlib
import sys
import types
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from weightspace.config import BadInput
from weightspace.store import read_checkpoints


def rows_of(folder):
    zoo = read_checkpoints(folder)
    places = zip(zoo.table["member"], zoo.table["epoch"], strict=True)
    return {place: zoo.weights[i] for i, place in enumerate(places)}


@contextlib.contextmanager
def foreign_class(module, name):
    """Make a class of a package that is there only while the pickle is written."""
    packages = [".".join(module.split(".")[: depth + 1]) for depth in range(module.count(".") + 1)]
    sys.modules |= {package: types.ModuleType(package) for package in packages}
    kind = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, kind)
    try:
        yield kind
    finally:
        for package in packages:
            del sys.modules[package]


def write_prepared(path, make_state, legacy=False, spoil=None):
    """Write a prepared data set as its authors' code would; returns the weight vectors."""
    vectors = {}
    with foreign_class("checkpoints_to_datasets.dataset_base", "ModelDatasetBase") as kind:
        sets = {}
        for number, name in enumerate(("trainset", "valset", "testset")):
            part = kind()
            part.data_in, part.paths, part.epochs = [], [], []
            for run in (2 * number, 2 * number + 1):
                for epoch in (3, 1):
                    state, vectors[f"run{run}", epoch] = make_state(seed=10 * run + epoch)
                    state = collections.OrderedDict(state)
                    state._metadata = collections.OrderedDict(version=1)
                    part.data_in.append(state)
                    part.paths.append(pathlib.PosixPath(f"/home/someone/zoo/run{run}"))
                    part.epochs.append(epoch)
            part.data_out = part.data_in
            part.layer_lst = [(0, "conv2d"), (3, "conv2d")]
            part.properties = {
                "test_acc": [epoch / 10 for epoch in part.epochs],
                "ggap": [np.float64(0.25)] * 4,
                "training_iteration": list(part.epochs),
                "model::nlin": ["tanh"] * 4,
                "optim::lr": [1e-3] * 4,
            }
            sets[name] = part
        if spoil is not None:
            spoil(sets)
        torch.save(sets, path, _use_new_zipfile_serialization=not legacy)
    return vectors


@pytest.mark.parametrize("legacy", [False, True])
def test_prepared_set_comes_back_with_its_split(tmp_path, read, make_state, legacy):
    wanted = write_prepared(tmp_path / "dataset.pt", make_state, legacy)
    [report] = read(tmp_path, "prepared_pt", "dataset.pt")
    found = rows_of(tmp_path / "zoo")
    assert found.keys() == wanted.keys()
    assert all(found[place].tobytes() == wanted[place].tobytes() for place in wanted)
    table = pd.read_parquet(tmp_path / "zoo")
    sides = table.groupby("member")["published_split"].first().tolist()
    assert sides == ["train", "train", "val", "val", "test", "test"]
    assert table["test_accuracy"].tolist() == pytest.approx((table["epoch"] / 10).tolist())
    assert set(table["generalization_gap"]) == {0.25}
    assert any("above 5" in note for note in report["notes"])


def change_member(sets, make_state, pattern, spoil=False):
    """Give a member of the test part other tensors."""
    states = sets["testset"].data_in
    for number in (2, 3):
        states[number] = collections.OrderedDict(make_state(pattern, number)[0])
        if spoil:
            states[number]["module_list.0.bias"][0] = torch.nan


def test_prepared_set_keeps_a_member_that_is_not_a_number(tmp_path, read, make_state):
    write_prepared(tmp_path / "d.pt", make_state, spoil=lambda sets: change_member(sets, make_state, "cnn_s", True))
    [report] = read(tmp_path, "prepared_pt", "d.pt")
    table = pd.read_parquet(tmp_path / "zoo")
    assert report["diverged_members"] == ["run5"]
    assert table.loc[table["diverged"], "member"].tolist() == ["run5", "run5"]


def test_prepared_set_of_two_architectures_is_refused_or_kept(tmp_path, read, make_state):
    write_prepared(tmp_path / "d.pt", make_state, spoil=lambda sets: change_member(sets, make_state, "cnn_l"))
    with pytest.raises(BadInput, match=r"run5 is cnn_l .*`mixed: keep`"):
        read(tmp_path, "prepared_pt", "d.pt")
    assert not (tmp_path / "zoo").exists()
    read(tmp_path, "prepared_pt", "d.pt", mixed="keep")
    lengths = pd.read_parquet(tmp_path / "zoo").groupby("member")["weights"].first().map(len)
    assert lengths.to_dict() == {f"run{run}": 10853 if run == 5 else 2464 for run in range(6)}


class Hostile:
    """Executes something when it is unpickled."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.PurePosixPath(self.flag),)


class Shell:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.flag}",)


class Evaluated:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return eval, (f"open({str(self.flag)!r}, 'w')",)


HOSTILE = {
    Shell: r"posix\.system",
    Evaluated: r"(__builtin__\.|builtins\.)?eval",
    Hostile: r"(__builtin__\.|builtins\.)?getattr",
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("legacy", [False, True])
def test_prepared_set_that_wants_to_execute_is_refused_by_name(tmp_path, read, make_state, hostile, legacy):
    flag = tmp_path / "executed"

    def spoil(sets):
        sets["trainset"].extra = hostile(flag)

    write_prepared(tmp_path / "dataset.pt", make_state, legacy, spoil)
    with pytest.raises(BadInput, match=rf"dataset\.pt: wants ({HOSTILE[hostile]}).*, refused"):
        read(tmp_path, "prepared_pt", "dataset.pt")
    assert not flag.exists()
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("kind", "file"), [("modelzoo", "checkpoints"), ("wild_park", "checkpoint.pt")])
def test_checkpoint_that_wants_to_execute_is_refused_by_name(tmp_path, read, write_run, hostile, kind, file):
    flag = tmp_path / "executed"
    write_run(tmp_path / "src/a")
    torch.save({"w": torch.ones(2, 2), "b": hostile(flag)}, tmp_path / "src/a/checkpoint_000000" / file)
    with pytest.raises(BadInput, match=rf"a/checkpoint_000000/{file}: wants ({HOSTILE[hostile]}).*, refused"):
        read(tmp_path, kind)
    assert not flag.exists()


def test_torchscript_is_refused(tmp_path, read):

    with zipfile.ZipFile(tmp_path / "dataset.pt", "w") as archive:
        archive.writestr("archive/version", b"3")
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(BadInput, match="TorchScript"):
        read(tmp_path, "prepared_pt", "dataset.pt")


def test_truncated_prepared_set_is_refused(tmp_path, read, make_state):
    path = tmp_path / "dataset.pt"
    write_prepared(path, make_state)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadInput, match=r"dataset\.pt: cannot be read .*cut short"):
        read(tmp_path, "prepared_pt", "dataset.pt")


def test_prepared_set_of_uneven_lists_is_refused(tmp_path, read, make_state):
    write_prepared(tmp_path / "d.pt", make_state, spoil=lambda sets: sets["valset"].properties["test_acc"].pop())
    with pytest.raises(BadInput, match=r"d\.pt: valset: 3 test_acc for 4 checkpoints"):
        read(tmp_path, "prepared_pt", "d.pt")


def write_wild(folder, channels, residual, seed=0):
    """Write a run of the Wild Park as its authors' code would; returns the tensors of each checkpoint."""
    states = {}
    for number in (10, 20):
        generator = torch.Generator().manual_seed(seed + number)
        state = collections.OrderedDict()
        for i, (into, out) in enumerate(zip([3, *channels[:-1]], channels, strict=True)):
            state[f"layers.{i}.weight"] = torch.randn(out, into, 3, 3, generator=generator)
            state[f"layers.{i}.bias"] = torch.randn(out, generator=generator)
        state["fc.weight"] = torch.randn(10, channels[-1], generator=generator)
        state["fc.bias"] = torch.randn(10, generator=generator)
        states[number] = state
        with foreign_class("omegaconf.dictconfig", "DictConfig") as kind:
            config = kind()
            config.__dict__["_content"] = {"residual": residual, "activation": ["relu"] * len(channels)}
            place = folder / f"checkpoint_{number:06d}"
            place.mkdir(parents=True)
            result = {"test/acc": number / 100, "test/loss": 1.0, "training_iteration": number}
            saved = {"model": state, "optimizer": {}, "config": config, "iteration": number, "last_result": result}
            torch.save(saved, place / "checkpoint.pt")
    return states


def test_wild_park_comes_back_with_the_metrics_in_its_checkpoints(tmp_path, read):
    states = write_wild(tmp_path / "src/a", [4, 8], [-1, -1])
    read(tmp_path, "wild_park")
    for (_, epoch), vector in rows_of(tmp_path / "zoo").items():
        assert vector.tobytes() == torch.cat([t.flatten() for t in states[epoch].values()]).numpy().tobytes()
    table = pd.read_parquet(tmp_path / "zoo")
    assert table["test_accuracy"].tolist() == pytest.approx([0.1, 0.2])
    assert table["activations"].tolist() == ["relu relu"] * 2


def test_wild_park_may_be_permuted_only_without_residuals(tmp_path, read):
    write_wild(tmp_path / "src/a", [4, 8, 4], [-1, -1, -1])
    write_wild(tmp_path / "src/b", [4, 8, 4], [-1, -1, 0])
    plain, residual = read(tmp_path, "wild_park", mixed="split")
    layouts = [read_checkpoints(tmp_path / "zoo" / report["network"]).layout for report in (plain, residual)]
    assert layouts[0].permutation_sizes == {"p0": 4, "p1": 8, "p2": 4}
    assert layouts[1].permutation_sizes == {}
    assert any("cannot be permuted" in note for note in residual["notes"])


def test_wild_park_with_the_tensors_of_our_own_network_is_not_run_as_it(tmp_path, read):
    write_wild(tmp_path / "src/a", [16, 16, 16], [-1, -1, -1])
    write_wild(tmp_path / "src/b", [16, 16, 16], [-1, -1, 0])
    names = [report["network"] for report in read(tmp_path, "wild_park", mixed="split")]
    plain, residual = (read_checkpoints(tmp_path / "zoo" / name) for name in names)
    assert plain.layout.permutation_sizes == {"p0": 16, "p1": 16, "p2": 16}
    assert residual.layout.permutation_sizes == {}
    assert not any("architecture" in zoo.about for zoo in (plain, residual))


def test_wild_park_keeps_the_published_split(tmp_path, read):
    for number, run in enumerate("ab"):
        write_wild(tmp_path / "src" / run, [4], [-1], number)
    paths = {run: [f"data/cifar10_zooV2/{run}/checkpoint_000010/checkpoint.pt"] for run in "ab"}
    split = {"train": {"path": paths["b"], "score": [0.1]}, "test": {"path": paths["a"], "score": [0.1]}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    read(tmp_path, "wild_park", split_file="split.json")
    table = pd.read_parquet(tmp_path / "zoo")
    assert dict(zip(table["member"], table["published_split"], strict=True)) == {"a": "test", "b": "train"}
    (tmp_path / "split.json").write_text(json.dumps(split | {"val": {"path": paths["a"]}}))
    with pytest.raises(BadInput, match=r"split\.json: puts a on two sides"):
        read(tmp_path, "wild_park", split_file="split.json")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_folder_of_state_dicts_takes_its_table(tmp_path, read, make_state, ending):
    (tmp_path / "src").mkdir()
    wanted, rows = {}, []
    for number in range(4):
        state, wanted[f"m{number // 2}", number % 2] = make_state(seed=number)
        if number < 2:
            torch.save(
                {"state_dict": {f"module.{name}": t for name, t in state.items()}}, tmp_path / f"src/f{number}.pt"
            )
        else:
            save_file(state, tmp_path / f"src/f{number}.safetensors")
        place = {"file": f"f{number}", "member": f"m{number // 2}", "epoch": number % 2}
        rows.append(place | {"test_acc": 0.1 * number, "lr": 0.1, "width": 2.0 * number, "team": "red"})
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "t.csv", index=False) if ending == ".csv" else table.to_parquet(tmp_path / "t.parquet")
    read(tmp_path, "folder", table={"path": f"t{ending}", "key": "file"})
    found = rows_of(tmp_path / "zoo")
    assert {place: vector.tobytes() for place, vector in found.items()} == {p: v.tobytes() for p, v in wanted.items()}
    table = pd.read_parquet(tmp_path / "zoo")
    assert table["test_accuracy"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert table["width"].tolist() == [0, 2, 4, 6]
    assert table["team"].tolist() == ["red"] * 4


def test_folder_without_a_table_knows_only_weights(tmp_path, read, make_state):
    (tmp_path / "src").mkdir()
    state, vector = make_state()
    save_file(state, tmp_path / "src/only.safetensors")
    read(tmp_path, "folder")
    assert rows_of(tmp_path / "zoo")["only", 0].tobytes() == vector.tobytes()
    assert pd.read_parquet(tmp_path / "zoo")["seed"].isna().all()


def test_table_that_names_no_file_is_refused(tmp_path, read, make_state):
    (tmp_path / "src").mkdir()
    save_file(make_state()[0], tmp_path / "src/x.safetensors")
    pd.DataFrame({"file": ["y"]}).to_csv(tmp_path / "t.csv")
    with pytest.raises(BadInput, match="no file is called as a row of the table says; wanted stems such as y"):
        read(tmp_path, "folder", table={"path": "t.csv", "key": "file"})


@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_safetensors_are_refused(tmp_path, read, content):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.safetensors: "):
        read(tmp_path, "folder")


def test_folder_with_nothing_to_import_is_refused(tmp_path, read):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/readme.txt").write_text(json.dumps({}))
    with pytest.raises(BadInput, match="has no checkpoints of a folder zoo"):
        read(tmp_path, "folder")
