from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.weightspace.samples.small_study import ARCHITECTURE, build_image_set, build_weight_data
from weightspace.config import BadInput
from weightspace.embeddings.scores import read_activations, read_architecture, score_networks
from weightspace.images.image_set import prepare_images
from weightspace.zoo.evaluate import evaluate_members

CPU = torch.device("cpu")
CHECKPOINTS = build_weight_data().checkpoints
IMAGES = prepare_images(build_image_set(), CPU)


def test_networks_of_several_activations_are_each_scored_with_their_own():
    weights = torch.from_numpy(CHECKPOINTS.weights[:2].copy())
    outcome = score_networks(ARCHITECTURE, weights, np.array(["tanh", "relu"]), IMAGES)
    for row, activation in enumerate(("tanh", "relu")):
        _, wanted = evaluate_members(ARCHITECTURE, weights[[row]], activation, IMAGES.test, IMAGES.test_labels)
        assert outcome.test_accuracy[row] == pytest.approx(wanted.item())


def test_a_network_without_finite_outputs_gets_nothing_right():
    weights = torch.from_numpy(CHECKPOINTS.weights[:2].copy())
    weights[1] = torch.nan
    outcome = score_networks(ARCHITECTURE, weights, np.array(["relu", "relu"]), IMAGES)
    assert outcome.test_accuracy[1] == 0
    assert outcome.val_accuracy[1] == 0
    assert outcome.wrong[1].all()


def test_weights_without_an_architecture_are_refused():
    with pytest.raises(BadInput, match="weights w: no architecture"):
        read_architecture(replace(CHECKPOINTS, about={}), "w")


@pytest.mark.parametrize("activation", ["swish", None])
def test_an_activation_that_cannot_be_run_is_refused(activation):
    table = CHECKPOINTS.table.copy()
    table.loc[3, "activation"] = activation
    got = activation or "nothing"
    with pytest.raises(BadInput, match=f"weights w: got '{got}' for an activation, wanted one of "):
        read_activations(replace(CHECKPOINTS, table=table), "w")


def test_networks_of_unknown_activation_are_refused():
    table = CHECKPOINTS.table
    for unknown in (table.drop(columns="activation"), table.assign(activation=np.nan)):
        with pytest.raises(BadInput, match="weights w: got 'nothing' for an activation"):
            read_activations(replace(CHECKPOINTS, table=unknown), "w")


def test_networks_of_unknown_activation_are_not_scored():
    weights = torch.from_numpy(CHECKPOINTS.weights[:2].copy())
    with pytest.raises(BadInput, match="networks to score: got 't' for an activation, wanted one of tanh"):
        score_networks(ARCHITECTURE, weights, np.array(["tanh", "t"]), IMAGES)
