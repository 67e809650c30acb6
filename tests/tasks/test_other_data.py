"""Embeddings of another weight data set than the one that the model learned from."""

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.embeddings import make_embeddings
from tasks.hyperrep import make_hyperrep
from tasks.weights import make_weights
from tests.weightspace.embeddings.small_config import configure_embeddings
from tests.weightspace.hyperrep.small_model import CPU, NoConfig, make_config
from tests.weightspace.weights.made_up_zoo import configure, match_weights_to, write_zoo
from weightspace.api import Hyperrep
from weightspace.config import BadInput
from weightspace.embeddings.embeddings import read_embeddings
from weightspace.hyperrep.hyperrep import Hyperrep as Model
from weightspace.hyperrep.members import MEMBERS_NAME
from weightspace.record import read_record, write_record
from weightspace.schema import TWINS_OF, TWINS_OF_DIGEST
from weightspace.weights.weight_data import read_weight_data

CONFIG = make_config(
    weights="a",
    window=20,
    tokens={"kind": "sparse", "d_token": 40},
    views={"erase": 0.0},
    training={"steps": 2, "validate_every": 2},
)
SPLIT = {"kind": "counts", "train": 8, "val": 4, "test": 4, "seed": 0}


def add_zoo(root, name, seed, **said):
    folder = root / "data/zoo" / name
    folder.mkdir(parents=True)
    write_zoo(folder, lambda part: part.about.update(said), seed=seed)
    write_record(folder, "zoo", name, NoConfig(), {})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with a zoo `z`, twins of it, another zoo, and a model of a part of the members of `z`."""
    root = tmp_path_factory.mktemp("study")
    add_zoo(root, "z", 0)
    add_zoo(root, "other", 1)
    add_zoo(root, "twins", 2, **{TWINS_OF: "z", TWINS_OF_DIGEST: read_record(root / "data/zoo/z").digest})
    make_weights("a", configure(zoo="z", split=SPLIT), root)
    make_hyperrep("h", CONFIG, root)
    return root


def embed(study, **said):
    make_weights("b", configure(**{"zoo": "z", "split": SPLIT} | said), study)
    make_embeddings("e", configure_embeddings(weights="b"), study)
    return read_embeddings(study / "data/embeddings/e")


def test_a_model_keeps_which_members_it_has_seen(study):
    seen = pd.read_parquet(study / "data/hyperrep/h" / MEMBERS_NAME)
    table = pd.read_parquet(study / "data/weights/a")
    wanted = table.loc[table["split"] != "test", ["member", "split"]].drop_duplicates()
    assert seen[["member", "split"]].to_records(index=False).tolist() == wanted.to_records(index=False).tolist()
    assert (seen["name"] == seen["member"]).all()
    assert set(seen["origin"]) == {read_record(study / "data/zoo/z").digest}


@pytest.mark.parametrize("train", [8, 12])
def test_another_data_set_with_the_same_split_is_embedded(study, train):
    assert set(embed(study, split=SPLIT | {"train": train}).table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("zoo", ["z", ".", "twins"])
def test_members_that_the_model_has_seen_are_not_passed_off_as_unseen(study, zoo):
    many = {"kind": "random", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 3}
    said = (
        r"weights/b: got .*[1-9] test members that it learned from.*, as hyperrep/h learned from weights/a, .*"
        "Wanted a data set with the split and seed of weights/a, or one of other zoos"
    )
    with pytest.raises(BadInput, match=said):
        embed(study, zoo=zoo, split=many)


def test_members_that_chose_the_model_are_not_passed_off_as_unseen(study):
    table = pd.read_parquet(study / "data/weights/a")
    val = table.loc[table["split"] == "val", "member"].unique().tolist()
    with pytest.raises(BadInput, match=rf"weights/b: got 1 test members that it was chosen by \('{val[0]}' the first"):
        embed(study, split={"kind": "members", "val": [], "test": val[:1]})
    assert val[0] in set(embed(study, split={"kind": "members", "val": val, "test": []}).table["member"])


def test_members_of_another_zoo_are_not_those_of_the_same_name(study):
    assert len(embed(study, zoo="other", split=SPLIT | {"seed": 3}).table)


def test_a_data_set_that_is_aligned_to_another_network_is_aligned_to_the_models_by_either_door(study):
    other = pd.read_parquet(study / "data/weights/a")["member"].iloc[-1]
    found = embed(study, alignment=match_weights_to(kind="member", member=other)).tokens
    again = Hyperrep.load(study / "data/hyperrep/h", "cpu").embed(study / "data/weights/b", halo=2).tokens
    np.testing.assert_allclose(again, found, atol=1e-6)
    model, given = Model.load(study / "data/hyperrep/h", CPU), read_weight_data(study / "data/weights/b")
    as_it_is = model.encode(torch.from_numpy(given.checkpoints.weights), halo=2)
    assert not np.allclose(found, as_it_is, atol=1e-2)
