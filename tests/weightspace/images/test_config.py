import pytest
from pydantic import ValidationError


def test_fractions_of_more_than_there_is_are_refused(make_config):
    split = {"kind": "fractions", "train": 0.8, "val": 0.2, "test": 0.2, "seed": 0}
    with pytest.raises(ValidationError, match="at most 1"):
        make_config(split=split)


def test_fractions_that_sum_to_one_only_nearly_are_taken(make_config):
    split = make_config(split={"kind": "fractions", "train": 0.7, "val": 0.2, "test": 0.1, "seed": 0}).split
    assert split.train + split.val + split.test != 1.0


@pytest.mark.parametrize("key", ["mean", "std"])
def test_statistics_of_another_number_of_channels_are_refused(make_config, key):
    normalize = {"kind": "fixed", "mean": [0.5], "std": [0.5], key: [0.5, 0.5, 0.5]}
    with pytest.raises(ValidationError, match=rf"normalize.{key}: 3 values, wanted 1"):
        make_config(normalize=normalize)


@pytest.mark.parametrize(("key", "value"), [("mean", float("nan")), ("std", float("inf")), ("std", float("nan"))])
def test_statistics_that_are_no_numbers_are_refused(make_config, key, value):
    with pytest.raises(ValidationError, match=rf"normalize.fixed.{key}.0"):
        make_config(normalize={"kind": "fixed", "mean": [0.5], "std": [0.5], key: [value]})


def test_a_split_must_say_its_seed(make_config):
    with pytest.raises(ValidationError, match="seed"):
        make_config(split={"kind": "counts", "train": 8, "val": 8, "test": 8})


def test_an_unknown_source_is_refused(make_config):
    with pytest.raises(ValidationError, match="mnist6k"):
        make_config(source={"kind": "mnist6k"})
