import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest
import torch

from tests.weightspace.weights.made_up_zoo import (
    ARCHITECTURE,
    ARCHITECTURES,
    EPOCHS,
    LAYOUT,
    MEMBERS,
    MLP,
    configure,
    make_part,
    make_work,
    match_weights_to,
    prepare,
    write_zoo,
)
from weightspace import store
from weightspace.config import BadInput
from weightspace.networks import build_layout, run_networks
from weightspace.schema import TWINS_OF
from weightspace.store import list_layouts, name_part, read_checkpoints, read_part, read_table, write_part
from weightspace.weights.prepare import prepare_weight_data
from weightspace.weights.statistics import measure_statistics
from weightspace.weights.weight_data import read_alignment, read_weight_data
from weightspace.weights.weight_table import open_weight_data


def name_images(name):
    def change(part):
        part.about["images"] = {"name": name}

    return change


def forget_lr(part):
    name_images("b")(part)
    del part.table["lr"]
    part.table["seed"] = np.arange(len(part.table))
    part.table["note"] = "new"


@pytest.fixture
def alike(tmp_path):
    """Two zoos of one architecture on other images, of which the second tells other factors."""
    zoos = {"a": tmp_path / "a", "b": tmp_path / "b"}
    write_zoo(zoos["a"], name_images("a"))
    write_zoo(zoos["b"], forget_lr, seed=1)
    return zoos


@pytest.fixture
def unlike(tmp_path):
    """Three zoos of two architectures."""
    zoos = {name: tmp_path / name for name in "abc"}
    for seed, (name, folder) in enumerate(zoos.items()):
        write_zoo(folder, name_images(name), MLP if name == "b" else ARCHITECTURE, seed)
    return zoos


def prepare_all(zoos, target, **changes):
    prepare_weight_data(zoos, target, configure(zoo=".", **changes), make_work(target))


def test_members_of_all_zoos_are_one_table(alike, target):
    prepare_all(alike, target)
    table = read_weight_data(target).checkpoints.table
    assert table["zoo"].value_counts().to_dict() == {"a": MEMBERS * EPOCHS, "b": MEMBERS * EPOCHS}
    assert (table["member"].str.partition("/")[0] == table["zoo"]).all()
    assert table["member"].nunique() == 2 * MEMBERS
    assert (table.groupby("member")["split"].nunique() == 1).all()


def be_twins(part):
    part.about[TWINS_OF] = "a"


@pytest.fixture
def twinned(alike, tmp_path):
    """A zoo, another one, and two zoos of twins of the first."""
    twins = {"t": tmp_path / "t", "u": tmp_path / "u"}
    for seed, folder in enumerate(twins.values()):
        write_zoo(folder, be_twins, seed=seed)
    return alike | twins


@pytest.mark.parametrize("left_out", ["b", "a"])
def test_members_and_their_twins_are_on_one_side(twinned, target, left_out):
    del twinned[left_out]
    prepare_all(twinned, target)
    table = read_weight_data(target).checkpoints.table
    name = table["member"].str.partition("/")[2].where(table["zoo"] != "b", table["member"])
    assert (table.groupby(name)["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}


def test_a_split_that_parts_a_member_from_its_twin_is_refused(twinned, target):
    name = read_table(twinned["a"])[1]["member"].iloc[0]
    split = {"kind": "members", "val": [f"t/{name}"], "test": []}
    wanted = f"split: 'a/{name}' is in train and 't/{name}', which has the same origin, in val, wanted both on one side"
    with pytest.raises(BadInput, match=wanted):
        prepare_all(twinned, target, split=split)


def test_weights_of_all_zoos_keep_their_function(alike, target):
    prepare_all(alike, target)
    before = torch.from_numpy(np.concatenate([read_checkpoints(folder).weights for folder in alike.values()]))
    after = torch.from_numpy(read_weight_data(target).checkpoints.weights)
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    logits = [run_networks(ARCHITECTURE, LAYOUT.split(weights), images, "tanh") for weights in (before, after)]
    assert not torch.equal(before, after)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


def test_what_one_zoo_does_not_tell_is_a_gap_of_its_type(alike, target):
    prepare_all(alike, target)
    table = pads.dataset(target).to_table()
    of_a = np.array(table.column("zoo").to_pylist()) == "a"
    for column, kind, known in (("lr", "double", of_a), ("seed", "int64", ~of_a), ("note", "large_string", ~of_a)):
        assert str(table.schema.field(column).type) == kind
        assert np.array_equal(table.column(column).is_valid().to_numpy(), known)


def test_all_parts_have_the_same_columns(unlike, target):
    prepare_all(unlike, target)
    schemas = [pads.dataset(part).schema.remove_metadata() for part in sorted(target.glob("part-*"))]
    assert len(schemas) == 6
    assert all(schema == schemas[0] for schema in schemas)


def test_each_zoo_says_what_it_is(alike, target):
    prepare_all(alike, target)
    about = read_table(target)[2]
    assert about["architecture"] == ARCHITECTURE.model_dump(mode="json")
    assert "images" not in about
    assert {zoo: said["images"]["name"] for zoo, said in about["zoos"].items()} == {"a": "a", "b": "b"}


def test_zoos_of_one_layout_have_one_reference_and_one_set_of_statistics(alike, target):
    prepare_all(alike, target)
    data = read_weight_data(target)
    assert {path.name for path in target.glob("_*")} == {
        "_alignment.safetensors",
        "_reference.safetensors",
        "_statistics.safetensors",
    }
    train = torch.from_numpy(data.checkpoints.weights[data.rows("train")])
    torch.testing.assert_close(data.statistics.std, measure_statistics(LAYOUT, train, "layer").std)
    assert len(read_alignment(target).members) == 2 * MEMBERS


def test_each_layout_has_its_own_reference_statistics_and_alignment(unlike, target):
    prepare_all(unlike, target)
    for name, architecture, zoos in (("cnn_s", ARCHITECTURE, "ac"), ("mlp", MLP, "b")):
        layout = build_layout(architecture)
        data = read_weight_data(target, name)
        assert data.checkpoints.layout == layout
        assert set(data.checkpoints.table["zoo"]) == set(zoos)
        assert set(data.checkpoints.about["zoos"]) == set(zoos)
        assert data.reference.shape == (layout.num_weights,)
        train = torch.from_numpy(data.checkpoints.weights[data.rows("train")])
        torch.testing.assert_close(data.statistics.std, measure_statistics(layout, train, "layer").std)
        alignment = read_alignment(target, name)
        assert alignment.members == tuple(dict.fromkeys(data.checkpoints.table["member"]))
        others = alignment.before > 0
        assert (alignment.after[others] < alignment.before[others]).all()


def test_data_set_of_several_layouts_is_one_table_for_pandas(unlike, target):
    prepare_all(unlike, target)
    table = pd.read_parquet(target)
    assert table.groupby("layout")["zoo"].unique().map(sorted).to_dict() == {"cnn_s": ["a", "c"], "mlp": ["b"]}
    assert table["weights"].map(len).groupby(table["layout"]).unique().map(list).to_dict() == {
        "cnn_s": [2464],
        "mlp": [build_layout(MLP).num_weights],
    }


def test_one_layout_of_several_is_read_from_disk_as_it_is_needed(unlike, target):
    prepare_all(unlike, target)
    whole, opened = read_weight_data(target, "mlp"), open_weight_data(target, "mlp")
    rows = np.array([70, 3, 41])
    assert np.array_equal(opened.read(rows).numpy(), whole.checkpoints.weights[rows])


def test_layouts_of_one_name_are_told_apart_by_their_size(tmp_path, target):
    zoos = {"grey": tmp_path / "grey", "rgb": tmp_path / "rgb"}
    write_zoo(zoos["grey"])
    write_zoo(zoos["rgb"], architecture=ARCHITECTURES["cnn_s_rgb"])
    prepare_all(zoos, target)
    assert list(list_layouts(target)) == ["cnn_s_2464", "cnn_s_2864"]


def test_layout_of_which_nothing_is_kept_is_not_there(unlike, target):
    prepare_all(unlike, target, filters=[{"kind": "values", "column": "zoo", "values": ["a", "c"]}])
    data = read_weight_data(target)
    assert data.checkpoints.layout == LAYOUT
    assert "layout" not in data.checkpoints.table


def write_ragged(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, architecture in enumerate((ARCHITECTURE, MLP, ARCHITECTURE)):
        write_part(folder / name_part(number), make_part(10 * number, 10, rng, architecture), ragged=True)


def test_zoo_of_several_layouts_becomes_a_data_set_of_several(tmp_path, target):
    write_ragged(tmp_path / "zoo")
    prepare_weight_data({"made_up": tmp_path / "zoo"}, target, configure(), make_work(target))
    table = read_weight_data(target, "cnn_s").checkpoints.table
    assert table["member"].nunique() == 20
    assert set(table["member"]).isdisjoint(read_weight_data(target, "mlp").checkpoints.table["member"])
    assert "zoo" not in table


def test_named_reference_is_refused_for_several_layouts(unlike, target):
    with pytest.raises(BadInput, match=r"alignment\.reference\.member: got 'a/m00001' for networks of several layouts"):
        prepare_all(unlike, target, alignment=match_weights_to(kind="member", member="a/m00001"))


def test_reference_and_sides_may_name_members_of_any_zoo(alike, target):
    alignment = match_weights_to(kind="member", member="b/m00004")
    split = {"kind": "members", "val": ["a/m00001"], "test": ["b/m00001", "b/m00002"]}
    prepare_all(alike, target, alignment=alignment, split=split)
    data = read_weight_data(target)
    assert set(data.checkpoints.table.loc[data.rows("test"), "member"]) == {"b/m00001", "b/m00002"}
    row = np.flatnonzero(data.checkpoints.table["member"] == "b/m00004")[-1]
    assert np.array_equal(data.reference.numpy(), data.checkpoints.weights[row])


def test_split_that_a_zoo_tells_is_taken_over(tmp_path, target):
    def tell(part):
        turn = part.table["member"].str[-1].astype(int)
        part.table["split"] = turn.map(lambda digit: ("train", "train", "val", "test", "train")[digit % 5])

    write_zoo(tmp_path / "zoo", tell)
    found = prepare(tmp_path / "zoo", target, split={"kind": "column", "column": "split"}).checkpoints.table
    assert found["split"].tolist() == read_checkpoints(tmp_path / "zoo").table["split"].tolist()


def test_columns_that_do_not_fit_together_are_refused(alike, target):
    def confuse(part):
        part.table["note"] = 1

    write_zoo(alike["a"], confuse)
    with pytest.raises(BadInput, match=r"zoo: the columns of a, b do not fit together \(.*note.*\)"):
        prepare_all(alike, target)


def test_member_of_two_layouts_is_refused(tmp_path, target):
    write_ragged(tmp_path / "zoo")
    part = tmp_path / "zoo" / name_part(1)
    checkpoints = read_part(part)
    checkpoints.table["member"] = "m00000"
    write_part(part, checkpoints, ragged=True)
    with pytest.raises(BadInput, match="zoo: member 'm00000' is cnn_s and mlp, wanted one architecture"):
        prepare(tmp_path / "zoo", target)


def test_memory_is_that_of_one_part(alike, target, monkeypatch):
    """The largest number of weights that is read at once is that of a part, whatever the number of zoos."""
    read, most = store.StoredWeights.read, []
    monkeypatch.setattr(store.StoredWeights, "read", lambda self, rows: most.append(len(rows)) or read(self, rows))
    prepare_all(alike, target, max_abs_weight=100)
    assert max(most) == MEMBERS // 2 * EPOCHS
