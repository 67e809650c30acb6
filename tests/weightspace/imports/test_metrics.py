import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace.config import BadInput
from weightspace.imports.metrics import (
    Joiner,
    find_offset,
    name_factors,
    name_properties,
    name_property,
    read_lines,
    read_progress,
)

NUMBERS = st.sets(st.integers(0, 60), min_size=1, max_size=20)


@given(NUMBERS, st.sampled_from([0, 1]))
def test_metrics_of_every_checkpoint_tell_the_offset(numbers, offset):
    assert find_offset("a", sorted(numbers), {number + offset for number in numbers}, None) == offset


@given(NUMBERS, st.sampled_from([0, 1]))
def test_offset_that_is_said_is_obeyed_or_refused(numbers, offset):
    iterations = {number + offset for number in numbers}
    assert find_offset("a", sorted(numbers), iterations, offset) == offset


@given(NUMBERS, NUMBERS)
def test_join_is_by_value_or_an_error_that_says_the_offsets(numbers, iterations):
    metrics = {iteration: {"test_loss": float(iteration)} for iteration in iterations}
    joiner = Joiner(None)
    try:
        joined = joiner.join("a", sorted(numbers), metrics)
    except BadInput as error:
        said = str(error)
        joined = None
    if joined is None:
        assert all(f"offset {offset} leaves" in said for offset in (0, 1))
        return
    assert joiner.found is not None
    assert all(row["test_loss"] == number + joiner.found for number, row in joined.items())
    assert set(numbers) - set(joined) <= {max(numbers)}


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), st.integers(0, 200))
def test_lines_cut_anywhere_lose_only_the_last(values, cut):
    lines = [json.dumps({"training_iteration": i, "test_loss": value}) for i, value in enumerate(values)]
    text = "\n".join(lines).encode()
    kept = text[: max(0, len(text) - cut)]
    rows = read_lines("r", kept)
    whole = kept.count(b"\n")
    assert whole <= len(rows) <= whole + 1
    assert all(rows[i]["test_loss"] == values[i] for i in rows)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    for read in (read_lines, read_progress):
        try:
            rows = read("r", content)
        except BadInput:
            continue
        assert all(isinstance(iteration, int) for iteration in rows)


def test_not_a_number_is_read():
    assert str(read_lines("r", b'{"training_iteration": 0, "test_loss": NaN}')[0]["test_loss"]) == "nan"


@pytest.mark.parametrize("key", ["test_acc", "test/acc", "test_accuracy"])
def test_spellings_of_a_property_are_one(key):
    assert name_property(key) == "test_accuracy"


@pytest.mark.parametrize("key", ["time_this_iter_s", "test_f1", "config/lr", "accuracy"])
def test_other_keys_are_no_properties(key):
    assert name_property(key) is None


def test_property_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="r: test_acc is 'high', wanted a number"):
        name_properties("r", {"test_acc": "high"})


@pytest.mark.parametrize("seed", [float("inf"), 2**63, 1.5, "many", 10**30])
def test_seed_that_does_not_fit_is_refused(seed):
    with pytest.raises(BadInput, match="r: seed is"):
        name_factors("r", {"seed": seed})


def test_factors_that_are_not_told_are_left_out():
    assert name_factors("r", {"seed": None, "model::nlin": "leakyrelu", "lr": float("nan"), "cuda": True}) == {
        "activation": "leaky_relu"
    }
