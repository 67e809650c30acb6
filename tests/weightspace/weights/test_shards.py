import pytest

from tests.weightspace.weights.made_up_zoo import configure, make_work, match_weights_to, prepare
from weightspace import record
from weightspace.weights import shards
from weightspace.weights.prepare import prepare_weight_data


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@pytest.fixture
def calls(monkeypatch):
    """How many members each call matched; the call with the number in `fatal` does not come back."""

    class Calls(list):
        fatal = None

    calls, match = Calls(), shards.match_weights

    def count(layout, weights, *rest):
        if len(calls) == calls.fatal:
            raise Killed
        calls.append(len(weights))
        return match(layout, weights, *rest)

    monkeypatch.setattr(shards, "match_weights", count)
    return calls


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_run_that_was_killed_goes_on_where_it_stopped(zoo, target, tmp_path, calls):
    prepare(zoo, target)
    whole = read_files(target)
    assert calls == [10, 10]
    calls.clear()
    calls.fatal = 1
    (tmp_path / "again").mkdir()
    (tmp_path / "kept").mkdir()
    arguments = {"made_up": zoo}, tmp_path / "again", configure(), tmp_path / "kept"
    with pytest.raises(Killed):
        prepare_weight_data(*arguments)
    calls.fatal = None
    prepare_weight_data(*arguments)
    assert calls == [10, 10]
    assert read_files(tmp_path / "again") == whole


@pytest.mark.parametrize(
    "change",
    [
        {"alignment": match_weights_to(kind="first")},
        {"split": {"kind": "random", "train": 0.7, "val": 0.15, "test": 0.15, "seed": 7}},
    ],
)
def test_what_was_aligned_for_another_configuration_is_not_used(zoo, target, calls, change):
    prepare(zoo, target)
    calls.clear()
    prepare(zoo, target, **change)
    assert calls == [10, 10]


def test_what_other_code_aligned_is_not_used(zoo, target, calls, monkeypatch):
    prepare(zoo, target)
    calls.clear()
    monkeypatch.setattr(record, "digest_code", lambda: "other")
    prepare(zoo, target)
    assert calls == [10, 10]


def test_what_does_not_change_the_alignment_does_not_repeat_it(zoo, target, calls):
    prepare(zoo, target)
    calls.clear()
    prepare(zoo, target, epochs={"kind": "list", "epochs": [0]}, standardization={"kind": "none"})
    assert calls == []


def test_kept_alignment_that_is_damaged_is_made_again(zoo, target, calls):
    prepare(zoo, target)
    whole = read_files(target)
    next(make_work(target).iterdir()).write_bytes(b"")
    calls.clear()
    prepare(zoo, target)
    assert calls == [10]
    assert read_files(target) == whole
