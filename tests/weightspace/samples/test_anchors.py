from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weightspace.samples.small_study import build_embeddings, build_weight_data, make_samples_config
from weightspace.config import BadInput
from weightspace.samples.anchors import draw_distinct, gather_anchors, rank_checkpoints, share_samples
from weightspace.weights.weight_data import WeightData

DATA = build_weight_data()


def change_table(data: WeightData, **columns: np.ndarray) -> WeightData:
    table = data.checkpoints.table.assign(**columns)
    return replace(data, checkpoints=replace(data.checkpoints, table=table))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_add_up_and_are_proportional_within_one(sizes, num):
    shares = share_samples(sizes, num)
    assert sum(shares) == num
    assert all(abs(share - num * size / sum(sizes)) < 1 for share, size in zip(shares, sizes, strict=True))


def test_anchors_are_the_best_train_members_on_validation_images():
    table = DATA.checkpoints.table
    last = table[(table["split"] == "train") & (table["epoch"] == table["epoch"].max())]
    best = last.sort_values("val_accuracy", ascending=False)["member"].head(6).tolist()
    anchors = gather_anchors(make_samples_config(), DATA, build_embeddings(DATA), "train")
    assert anchors.table["member"].tolist() == best


def test_test_accuracy_has_no_say_in_the_choice_of_anchors():
    flipped = change_table(DATA, test_accuracy=1 - DATA.checkpoints.table["test_accuracy"].to_numpy())
    config, embeddings = make_samples_config(), build_embeddings(DATA)
    chosen, again = (gather_anchors(config, data, embeddings, "train") for data in (DATA, flipped))
    assert (chosen.table["member"] == again.table["member"]).all()


def test_validation_accuracy_decides():
    flipped = change_table(DATA, val_accuracy=1 - DATA.checkpoints.table["val_accuracy"].to_numpy())
    rows, again = (rank_checkpoints(data, "w", "train", "last") for data in (DATA, flipped))
    assert (rows == again[::-1]).all()


def test_diverged_checkpoints_are_no_anchors():
    best = rank_checkpoints(DATA, "w", "train", "all")[0]
    diverged = np.arange(len(DATA.checkpoints.table)) == best
    assert best not in rank_checkpoints(change_table(DATA, diverged=diverged), "w", "train", "all")


def test_anchors_of_all_epochs_are_more():
    assert len(rank_checkpoints(DATA, "w", "train", "all")) == 3 * len(rank_checkpoints(DATA, "w", "train", "last"))


def test_latents_are_those_of_the_same_checkpoint():
    embeddings = build_embeddings(DATA)
    order = np.random.default_rng(0).permutation(len(embeddings.table))
    shuffled = replace(
        embeddings,
        table=embeddings.table.iloc[order].reset_index(drop=True),
        summary=embeddings.summary[order],
        tokens=embeddings.tokens[order],
    )
    config = make_samples_config()
    one, other = (gather_anchors(config, DATA, e, "train") for e in (embeddings, shuffled))
    assert (one.latents == other.latents).all()


def test_embeddings_of_other_weights_are_refused():
    embeddings = build_embeddings(DATA)
    foreign = replace(embeddings, table=embeddings.table.assign(member="x" + embeddings.table["member"]))
    with pytest.raises(BadInput, match=r"embeddings e: member m\d+ at epoch 2 is not there"):
        gather_anchors(make_samples_config(), DATA, foreign, "train")


def test_distinct_draws_hold_no_member_twice_but_its_best_checkpoint():
    config = make_samples_config(anchors={"top_fraction": 1.0, "epochs": "all"})
    anchors = gather_anchors(config, DATA, build_embeddings(DATA), "train")
    num = anchors.table["member"].nunique()
    assert len(anchors.table) == 3 * num
    for wanted in (2, num, 100):
        picks = draw_distinct(anchors, wanted, np.random.default_rng(0))
        drawn = anchors.table.iloc[picks]
        assert len(drawn) == drawn["member"].nunique() == min(wanted, num)
        best = anchors.table.groupby("member")["val_accuracy"].max()
        assert (drawn.set_index("member")["val_accuracy"] == best[drawn["member"]]).all()


def forget(column, rows):
    """Change the made-up data so that a column is not known of some rows."""
    values = DATA.checkpoints.table[column]
    return change_table(DATA, **{column: values.mask(rows)})


@pytest.mark.parametrize("column", ["gaps", "missing"])
def test_a_zoo_without_validation_accuracy_is_told(column):
    data = forget("val_accuracy", np.full(len(DATA.checkpoints.table), True))
    if column == "missing":
        table = data.checkpoints.table.drop(columns="val_accuracy")
        data = replace(data, checkpoints=replace(data.checkpoints, table=table))
    with pytest.raises(BadInput, match="weights w: val_accuracy is not known of any checkpoint on side train, wanted"):
        rank_checkpoints(data, "w", "train", "last")


def test_checkpoints_without_validation_accuracy_are_no_anchors():
    rows = rank_checkpoints(DATA, "w", "train", "all")
    data = forget("val_accuracy", np.isin(np.arange(len(DATA.checkpoints.table)), rows[:2]))
    assert (rank_checkpoints(data, "w", "train", "all") == rows[2:]).all()


@pytest.mark.parametrize("num", [1, None])
def test_anchors_of_unknown_activation_are_refused(num):
    rows = rank_checkpoints(DATA, "w", "train", "last")[:num]
    data = forget("activation", np.isin(np.arange(len(DATA.checkpoints.table)), rows))
    with pytest.raises(BadInput, match="weights w: got 'nothing' for an activation, wanted one of tanh"):
        gather_anchors(make_samples_config(), data, build_embeddings(DATA), "train")


def test_distinct_draws_hold_no_anchor_twice():
    anchors = gather_anchors(make_samples_config(), DATA, build_embeddings(DATA), "train")
    picks = draw_distinct(anchors, 100, np.random.default_rng(0))
    assert sorted(picks) == list(range(len(anchors.table)))
