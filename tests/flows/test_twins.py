"""Sparse twins as entries of a study."""

import pytest

from flows.params import read_study
from weightspace.config import BadInput

TWINS = """twins:
  t:
    zoo: z
    images: a
    from_epoch: 1
    method: {kind: magnitude, sparsities: [0.5, 0.9], scope: network, epochs: 0}
    shard_size: 2
    device: cpu
"""


@pytest.fixture
def study(toy):
    toy.change("weights: {}\n", TWINS + "weights: {}\n")
    return toy


def test_a_study_need_not_say_that_it_has_no_twins(toy):
    assert read_study(toy.root).twins == {}


def test_twins_are_read(study):
    assert read_study(study.root).twins["t"].zoo == "z"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("    zoo: z", "    zoo: y", "twins.t.zoo: got 'y', wanted an entry of zoo, "),
        (
            "    zoo: z",
            "    zoo: t",
            "twins.t.zoo: got 't', which are twins themselves, wanted an entry of zoo or imports",
        ),
        (
            "    zoo: z\n    images: a",
            "    zoo: z\n    images: b",
            "twins.t.images: got 'b', wanted 'a', which zoo.z uses",
        ),
        ("  t:\n", "  z:\n", "twins.z: got a name that is in zoo too, wanted another"),
        ("scope: network", "scope: netwrk", "twins.t.method.scope: got 'netwrk', wanted 'network' or 'layer'"),
        ("[0.5, 0.9]", "[0.9, 0.5]", "twins.t.method.sparsities: got [0.9, 0.5], wanted: sparsities in asc"),
        ("[0.5, 0.9]", "[0.5, 1.0]", "twins.t.method.sparsities.1: got 1.0, wanted: less than 1"),
    ],
)
def test_mistake_names_the_entry_of_twins(study, old, new, wanted):
    study.change(old, new)
    with pytest.raises(BadInput) as caught:
        read_study(study.root)
    message = str(caught.value)
    assert wanted in message
    assert "\n" not in message
