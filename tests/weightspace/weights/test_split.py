from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.weights.config import SplitConfig
from weightspace.weights.split import split_members

USUAL = SplitConfig(train=0.7, val=0.15, test=0.15, seed=0)


def name_members(num):
    return [f"m{i:05d}" for i in range(num)]


@given(num=st.integers(6, 300), seed=st.integers(0, 2**31))
def test_every_member_has_one_side_and_every_side_its_share(num, seed):
    sides = split_members(name_members(num), USUAL.model_copy(update={"seed": seed}))
    counts = Counter(sides.values())
    assert list(sides) == name_members(num)
    assert abs(counts["val"] - 0.15 * num) <= 0.5
    assert abs(counts["test"] - 0.15 * num) <= 0.5
    assert counts["train"] > 0


def test_same_seed_deals_the_same():
    assert split_members(name_members(50), USUAL) == split_members(name_members(50), USUAL)


def test_other_seed_deals_otherwise():
    other = USUAL.model_copy(update={"seed": 1})
    assert split_members(name_members(50), USUAL) != split_members(name_members(50), other)


def test_order_of_members_does_not_matter():
    assert split_members(name_members(50)[::-1], USUAL) == split_members(name_members(50), USUAL)


def test_new_members_move_few_others():
    before, after = split_members(name_members(200), USUAL), split_members(name_members(210), USUAL)
    assert sum(before[member] != after[member] for member in before) < 20


def test_side_without_a_share_stays_empty():
    sides = split_members(name_members(10), SplitConfig(train=0.8, val=0.2, test=0, seed=0))
    assert Counter(sides.values()) == {"train": 8, "val": 2}


def test_too_few_members_are_refused_with_counts():
    with pytest.raises(BadInput, match=r"3 members gives 3 train, 0 val, 0 test; wanted at least 4 members"):
        split_members(name_members(3), USUAL)


def test_parts_that_are_not_the_whole_are_refused():
    with pytest.raises(ValueError, match=r"train \+ val \+ test is 0.9, wanted 1"):
        SplitConfig(train=0.7, val=0.1, test=0.1, seed=0)
