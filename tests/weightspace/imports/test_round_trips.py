"""What every format has in common: both index patterns, a missing last line, a diverged member, two architectures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from weightspace.config import BadInput
from weightspace.imports import writer
from weightspace.store import list_layouts, list_parts, read_checkpoints, read_metadata

EPOCHS = (0, 1, 2)
RAY = ("modelzoo", "phase_transition", "weightclip")


def write_wild(folder, state, epoch, metrics, file="checkpoint.pt", padded=True):
    place = folder / (f"checkpoint_{epoch:06d}" if padded else f"checkpoint_{epoch}")
    place.mkdir(parents=True)
    result = {"training_iteration": epoch} | ({} if metrics is None else {"test/acc": metrics})
    torch.save({"model": dict(state), "iteration": epoch, "last_result": result}, place / file)


class Zoo:
    """A made-up foreign zoo in one of the formats that keep checkpoints in files."""

    def __init__(self, root, kind, make_state):
        self.root, self.kind, self.make_state = root, kind, make_state
        self.rows = []
        root.mkdir()

    def add(self, member, pattern="cnn_s", seed=0, padded=True, spoil=False, measured=EPOCHS):
        """Write one member; returns its vectors by member and epoch."""
        vectors = {}
        for epoch in EPOCHS:
            state, vector = self.make_state(pattern, 10 * seed + epoch)
            if spoil:
                state["module_list.0.bias"][0] = torch.nan
            vectors[member, epoch] = np.concatenate([tensor.flatten().numpy() for tensor in state.values()])
            self.write(member, epoch, state, padded, epoch in measured)
            assert len(vector) == len(vectors[member, epoch])
        if self.kind in (*RAY, "huggingface"):
            lines = [{"training_iteration": epoch, "test_acc": epoch / 10} for epoch in measured]
            (self.root / member / "result.json").write_text("\n".join(map(json.dumps, lines)))
        return vectors

    def write(self, member, epoch, state, padded, measured):
        number = f"{epoch:06d}" if padded else f"{epoch}"
        if self.kind == "wild_park":
            write_wild(self.root / member, state, epoch, epoch / 10 if measured else None, padded=padded)
        elif self.kind == "folder":
            save_file(state, self.root / f"{member}_{number}.safetensors")
            row = {"file": f"{member}_{number}", "member": member, "epoch": epoch}
            self.rows.append(row | {"test_acc": epoch / 10 if measured else None})
            pd.DataFrame(self.rows).to_csv(self.root / "table.csv", index=False)
        elif self.kind == "huggingface":
            place = self.root / member / f"checkpoint-{number}"
            place.mkdir(parents=True)
            save_file(state, place / "model.safetensors")
        else:
            place = self.root / member / f"checkpoint_{number}"
            place.mkdir(parents=True)
            torch.save(state, place / "checkpoints")


FORMATS = (*RAY, "huggingface", "wild_park", "folder")


@pytest.fixture(params=FORMATS)
def zoo(request, tmp_path, make_state):
    return Zoo(tmp_path / "src", request.param, make_state)


@pytest.fixture
def load(tmp_path, read, zoo):
    """Give a function that imports the zoo."""

    def run(**changes):
        if zoo.kind == "folder":
            changes["table"] = {"path": "src/table.csv", "key": "file"}
        return read(tmp_path, zoo.kind, **changes)

    return run


def rows_of(folder, layout=None):
    zoo = read_checkpoints(folder, layout=layout)
    places = zip(zoo.table["member"], zoo.table["epoch"], strict=True)
    return {place: zoo.weights[i].tobytes() for i, place in enumerate(places)}


def to_bytes(vectors):
    return {place: vector.tobytes() for place, vector in vectors.items()}


def is_called(zoo, found, *names):
    """Tell whether networks go by our names; those of the Wild Park never do, whatever their shapes."""
    if zoo.kind == "wild_park":
        return len(found) == len(names) and all(name.startswith("net_") for name in found)
    return found == list(names)


@pytest.mark.parametrize("padded", [True, False])
def test_both_index_patterns_come_back_bit_for_bit(tmp_path, zoo, load, padded):
    # Where wiring is not known, layers go by the source's names, and these differ with dropout.
    other = "cnn_s" if zoo.kind == "wild_park" else "cnn_s_dropout"
    wanted = zoo.add("a", padded=padded) | zoo.add("b", other, 1, padded)
    [report] = load()
    assert rows_of(tmp_path / "zoo") == to_bytes(wanted)
    assert is_called(zoo, [report["network"]], "cnn_s")


def test_last_checkpoint_without_metrics_has_a_gap(tmp_path, zoo, load):
    zoo.add("a", measured=EPOCHS[:-1])
    load()
    table = pd.read_parquet(tmp_path / "zoo").sort_values("epoch")
    assert table["test_accuracy"].isna().tolist() == [False, False, True]
    assert not table["diverged"].any()


def test_member_that_is_not_a_number_stays_marked(tmp_path, zoo, load):
    wanted = zoo.add("a") | zoo.add("b", seed=1, spoil=True)
    [report] = load()
    assert rows_of(tmp_path / "zoo") == to_bytes(wanted)
    assert report["diverged_members"] == ["b"]


def test_two_architectures_are_refused(tmp_path, zoo, load):
    zoo.add("a")
    zoo.add("b", "cnn_l", 1)
    large, small = (r"net_\w+", r"net_\w+") if zoo.kind == "wild_park" else ("cnn_l", "cnn_s")
    with pytest.raises(BadInput, match=rf"b is {large} .*, a is {small} .*`mixed: split` .*`mixed: keep`"):
        load()
    assert not (tmp_path / "zoo").exists()


def test_two_architectures_are_split(tmp_path, zoo, load):
    small, large = zoo.add("a"), zoo.add("b", "cnn_l", 1)
    names = [report["network"] for report in load(mixed="split")]
    assert is_called(zoo, names, "cnn_s", "cnn_l")
    assert [rows_of(tmp_path / "zoo" / name) for name in names] == [to_bytes(small), to_bytes(large)]


def test_two_architectures_are_kept_in_one_table(tmp_path, zoo, load):
    small, large = zoo.add("a"), zoo.add("b", "cnn_l", 1)
    [report] = load(mixed="keep")
    names = report["network"].split(", ")
    assert is_called(zoo, names, "cnn_s", "cnn_l")
    assert (report["members"], report["checkpoints"]) == (2, 6)
    assert [rows_of(tmp_path / "zoo", name) for name in names] == [to_bytes(small), to_bytes(large)]
    table = pd.read_parquet(tmp_path / "zoo").set_index("member")
    assert table["weights"].map(len).to_dict() == {"a": 2464, "b": 10853}
    assert table["layout"].to_dict() == dict(zip("ab", names, strict=True))


def test_kept_zoo_is_written_in_bounded_parts(tmp_path, zoo, load, monkeypatch):
    monkeypatch.setattr(writer, "PART_BYTES", 100_000)
    wanted = {}
    for seed in range(6):
        wanted |= zoo.add(f"m{seed}", "cnn_l" if seed % 2 else "cnn_s", seed)
    load(mixed="keep")
    assert len(list_parts(tmp_path / "zoo")) > 3
    found = [rows_of(tmp_path / "zoo", layout) for layout in list_layouts(tmp_path / "zoo")]
    assert found[0] | found[1] == to_bytes(wanted)
    assert all(read_metadata(part)[0].num_weights in (2464, 10853) for part in list_parts(tmp_path / "zoo"))


def test_networks_of_one_name_and_other_shapes_are_told_apart(tmp_path, read, make_state):
    (tmp_path / "src").mkdir()
    for channels in (1, 3):
        state, _ = make_state()
        state["module_list.0.weight"] = torch.ones(8, channels, 5, 5)
        save_file(state, tmp_path / f"src/c{channels}.safetensors")
    read(tmp_path, "folder", mixed="keep")
    assert list(list_layouts(tmp_path / "zoo")) == ["cnn_s", "cnn_s_2864"]
