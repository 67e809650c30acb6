from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.weights.config import ColumnSplit, CountSplit, MemberSplit, RandomSplit
from weightspace.weights.split import deal_members, split_members

USUAL = RandomSplit(kind="random", train=0.7, val=0.15, test=0.15, seed=0)


def name_members(num):
    return [f"m{i:05d}" for i in range(num)]


@given(num=st.integers(6, 300), seed=st.integers(0, 2**31))
def test_every_member_has_one_side_and_every_side_its_share(num, seed):
    sides = deal_members(name_members(num), USUAL.model_copy(update={"seed": seed}))
    counts = Counter(sides.values())
    assert list(sides) == name_members(num)
    assert abs(counts["val"] - 0.15 * num) <= 0.5
    assert abs(counts["test"] - 0.15 * num) <= 0.5
    assert counts["train"] > 0


def test_same_seed_deals_the_same():
    assert deal_members(name_members(50), USUAL) == deal_members(name_members(50), USUAL)


def test_other_seed_deals_otherwise():
    other = USUAL.model_copy(update={"seed": 1})
    assert deal_members(name_members(50), USUAL) != deal_members(name_members(50), other)


def test_order_of_members_does_not_matter():
    assert deal_members(name_members(50)[::-1], USUAL) == deal_members(name_members(50), USUAL)


def test_new_members_move_few_others():
    before, after = deal_members(name_members(200), USUAL), deal_members(name_members(210), USUAL)
    assert sum(before[member] != after[member] for member in before) < 20


def test_side_without_a_share_stays_empty():
    sides = deal_members(name_members(10), RandomSplit(kind="random", train=0.8, val=0.2, test=0, seed=0))
    assert Counter(sides.values()) == {"train": 8, "val": 2}


def test_too_few_members_are_refused_with_counts():
    with pytest.raises(BadInput, match=r"3 members gives 3 train, 0 val, 0 test; wanted at least 4 members"):
        deal_members(name_members(3), USUAL)


def test_parts_that_are_not_the_whole_are_refused():
    with pytest.raises(ValueError, match=r"train \+ val \+ test is 0.9, wanted 1"):
        RandomSplit(kind="random", train=0.7, val=0.1, test=0.1, seed=0)


def count(train, val=5, test=4, seed=0):
    return CountSplit(kind="counts", train=train, val=val, test=test, seed=seed)


def name_side(sides, side):
    return {member for member, own in sides.items() if own == side}


@given(fewer=st.integers(1, 30), more=st.integers(0, 30), seed=st.integers(0, 2**31))
def test_counted_sides_stay_whatever_the_number_of_train_members(fewer, more, seed):
    table = lay_out(dict.fromkeys(name_members(80), ""))
    small, large = (split_members(table, (), count(train, seed=seed)) for train in (fewer, fewer + more))
    assert Counter(large.values()) == {"train": fewer + more, "val": 5, "test": 4}
    assert all(name_side(small, side) == name_side(large, side) for side in ("val", "test"))
    assert name_side(small, "train") <= name_side(large, "train")


def test_counted_sides_of_another_seed_are_other_members():
    table = lay_out(dict.fromkeys(name_members(80), ""))
    sides = [name_side(split_members(table, (), count(20, seed=seed)), "test") for seed in (0, 1)]
    assert sides[0] != sides[1]


def test_more_members_than_there_are_is_refused():
    table = lay_out(dict.fromkeys(name_members(20), ""))
    with pytest.raises(BadInput, match="got 20 members, wanted at least 21: 12 train, 5 val and 4 test; ask for fewer"):
        split_members(table, (), count(12))


def lay_out(sides):
    """A table with two checkpoints of each member."""
    return pd.DataFrame(
        {"member": [name for name in sides for _ in range(2)], "side": [s for s in sides.values() for _ in "ab"]}
    )


BY_COLUMN = ColumnSplit(kind="column", column="side")


def test_column_says_the_side():
    sides = {"a": "test", "b": "train", "c": "val"}
    assert split_members(lay_out(sides), sides, BY_COLUMN) == sides


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("side", None, "member 'b' has nothing in 'side', wanted one of train, val, test"),
        ("side", "held out", "member 'b' has 'held out' in 'side', wanted one of train, val, test"),
        ("side", "test", "member 'b' is in train and test"),
    ],
)
def test_member_on_two_sides_or_on_none_is_refused(column, value, message):
    table = lay_out({"a": "test", "b": "train"})
    table.loc[3, column] = value
    with pytest.raises(BadInput, match=message):
        split_members(table, ["a", "b"], BY_COLUMN)


def test_column_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match=r"split\.column: got 'fold', wanted a column of the zoo: member, side"):
        split_members(lay_out({"a": "train"}), ["a"], ColumnSplit(kind="column", column="fold"))


def test_members_are_named_and_the_rest_is_train():
    config = MemberSplit(kind="members", val=("b",), test=("d", "filtered"))
    table = lay_out(dict.fromkeys("abcd", ""))
    sides = split_members(table, [*"abcd", "filtered"], config)
    assert sides == {"a": "train", "b": "val", "c": "train", "d": "test"}


def test_name_of_no_member_is_refused():
    config = MemberSplit(kind="members", val=(), test=("x",))
    with pytest.raises(BadInput, match=r"split\.test: got 'x', wanted the name of a member, such as 'a'"):
        split_members(lay_out({"a": ""}), ["a"], config)


def test_member_named_on_two_sides_is_refused():
    with pytest.raises(ValueError, match="val and test have no member in common, not 'a'"):
        MemberSplit(kind="members", val=("a", "b"), test=("c", "a"))


@pytest.mark.parametrize("config", [BY_COLUMN, MemberSplit(kind="members", val=(), test=("a",))])
def test_split_without_train_members_is_refused(config):
    with pytest.raises(BadInput, match="none of 1 members is in train"):
        split_members(lay_out({"a": "test"}), ["a"], config)
