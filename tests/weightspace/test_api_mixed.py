"""The Python interface with a model of several architectures."""

import numpy as np
import pytest
import torch

from tests.weightspace.hyperrep.small_model import make_data
from tests.weightspace.hyperrep.two_layouts import build_mixed, make_short
from weightspace.api import Hyperrep
from weightspace.config import BadInput

LONG = make_data(12).checkpoints


@pytest.fixture(scope="module")
def mixed():
    return Hyperrep(build_mixed())


def make_state(row):
    return {name: tensor.clone() for name, tensor in LONG.layout.split(torch.from_numpy(LONG.weights[row])).items()}


def list_both():
    """A state dict of each of two architectures, in turn."""
    short = make_short()
    states = [short.layout.split(torch.from_numpy(row)) for row in short.checkpoints.weights[:2]]
    return [make_state(0), states[0], make_state(1), states[1]]


def test_networks_go_by_the_layout_they_fit(mixed):
    states = list_both()
    together = mixed.embed(states, summary="pooled")
    assert together.table["layout"].tolist() == ["cnn", "mlp", "cnn", "mlp"]
    assert together.table["member"].tolist() == [f"network {number}" for number in range(4)]
    assert together.tokens is None
    for row, state in enumerate(states):
        alone = mixed.embed(state, summary="pooled")
        assert alone.tokens is not None
        np.testing.assert_allclose(together.summary[row], alone.summary[0], atol=1e-5)


def test_networks_of_several_layouts_come_back_in_their_order(mixed):
    states = list_both()
    found = mixed.reconstruct(states)
    for state, back in zip(states, found, strict=True):
        (alone,) = mixed.reconstruct(state)
        assert {name: tensor.shape for name, tensor in back.items()} == {n: t.shape for n, t in state.items()}
        assert all(torch.allclose(back[name], tensor, atol=1e-5) for name, tensor in alone.items())


def test_a_network_that_fits_no_layout_is_told_which_would(mixed):
    state = make_state(0) | {"fc2.bias": torch.zeros(9)}
    with pytest.raises(BadInput, match=r"network 0: does not fit; got .*; wanted one of cnn: conv1.weight .*; mlp: "):
        mixed.embed(state, summary="pooled")


def test_summaries_of_several_lengths_are_refused(mixed):
    with pytest.raises(BadInput, match="summary: got 'features' for networks of several layouts"):
        mixed.embed(list_both())


def test_anchors_of_several_layouts_are_refused(mixed):
    with pytest.raises(BadInput, match="anchors: got networks of several layouts, cnn, mlp; wanted those of one"):
        mixed.sample(list_both(), 2, bandwidth=0.1)
