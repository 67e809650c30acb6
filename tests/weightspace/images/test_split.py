import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.images.config import CountSplit, FractionSplit, OfficialSplit
from weightspace.images.split import check_classes, check_parts, order_images, split_images

LABELS = np.repeat(np.arange(5), [100, 80, 60, 40, 20])


def count(train, val, test, seed=0):
    return CountSplit(kind="counts", train=train, val=val, test=test, seed=seed)


def official(train, val, test, seed=0):
    return OfficialSplit(kind="official", train=train, val=val, test=test, seed=seed)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_run_of_the_order_is_stratified(sizes, seed, ends):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = order_images(labels, seed)
    start, end = sorted(int(end * len(labels)) for end in ends)
    counts = np.bincount(labels[order[start:end]], minlength=len(sizes))
    assert sorted(order) == list(range(len(labels)))
    assert np.abs(counts - np.asarray(sizes) * (end - start) / len(labels)).max() <= len(sizes)


def test_a_balanced_set_splits_exactly_balanced():
    labels = np.arange(1000) % 10
    split = split_images(labels, None, count(600, 200, 200))
    assert [np.bincount(labels[rows]).tolist() for rows in split.values()] == [[60] * 10, [20] * 10, [20] * 10]


def test_no_image_is_in_two_parts():
    rows = np.concatenate(list(split_images(LABELS, None, count(150, 70, 80)).values()))
    assert sorted(rows) == list(range(300))


def test_the_seed_decides_the_split():
    first, same, other = (split_images(LABELS, None, count(100, 50, 50, seed))["train"] for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_larger_training_part_contains_the_smaller():
    small, large = (split_images(LABELS, None, count(num, 20, 20))["train"] for num in (50, 100))
    assert np.array_equal(large[:50], small)


def test_the_order_is_the_one_of_other_machines():
    # Computed once with NumPy 2.4 on x86-64; Philox's raw bits are the same everywhere.
    digest = hashlib.sha256(order_images(LABELS, 7).astype("<i8").tobytes()).hexdigest()
    assert digest == "f375fddbe487007a8a908eeaef2ad99f2efc396095a156dadadc94645b0dfa08"


def test_fractions_take_all_images_where_they_sum_to_one():
    split = split_images(LABELS, None, FractionSplit(kind="fractions", train=0.7, val=0.2, test=0.1, seed=0))
    assert [len(rows) for rows in split.values()] == [210, 60, 30]


def test_official_parts_are_kept_apart():
    split = split_images(LABELS, 250, official(150, 100, 40))
    assert max(split["train"].max(), split["val"].max()) < 250
    assert split["test"].min() >= 250
    assert len(np.unique(np.concatenate([split["train"], split["val"]]))) == 250


def test_official_parts_must_exist():
    with pytest.raises(BadInput, match=r"split.kind: got official"):
        split_images(LABELS, None, official(10, 10, 10))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (count(200, 80, 21), "301, but there are 300 images in the set"),
        (official(200, 51, 10), "train . val = 251, but there are 250 images in the official training part"),
        (official(200, 50, 51), "test = 51, but there are 50 images in the official test part"),
    ],
)
def test_more_images_than_there_are_is_refused(config, message):
    with pytest.raises(BadInput, match=message):
        split_images(LABELS, 250, config)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "classes: got 4, but the set has 3; no image of class 3"),
        ([0, 1, 3], "no image of class 2"),
        ([0, 1, 2, 3, 4], "the label 4, wanted 0 to 3"),
        ([-1, 0, 1, 2, 3], "the label -1, wanted 0 to 3"),
    ],
)
def test_classes_that_do_not_fit_are_told(labels, message):
    with pytest.raises(BadInput, match=message):
        check_classes(np.asarray(labels), 4)


def test_a_class_missing_in_a_part_is_told():
    split = split_images(LABELS, None, count(100, 50, 3))
    with pytest.raises(BadInput, match=r"split.test: no image of class \d among 3"):
        check_parts(LABELS, split, 5)
