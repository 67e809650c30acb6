import numpy as np
import pytest
import torch

from tests.weightspace.twins.small_twins import CPU, IMAGES, LAYOUT, NETWORK, draw_start, make_config, make_factors
from tests.weightspace.zoo.engines import train_members_torch
from weightspace.twins.train import count_checkpoints, train_twins
from weightspace.zoo.train import make_recipe


def train(config, factors=None, start=None):
    factors = make_factors() if factors is None else factors
    start = draw_start(len(factors)) if start is None else start
    return train_twins(config, NETWORK, factors, start, IMAGES, CPU)


def test_a_heavy_penalty_makes_twins_sparse():
    found = train(make_config(epochs=6, penalty=50.0, variance_lr=0.5))
    assert (found.properties["sparsity"][:, 0] < 0.05).all()
    assert (found.properties["sparsity"][:, -1] > 0.9).all()


def test_without_noise_and_penalty_a_twin_trains_as_its_member_would():
    factors = make_factors(weight_decay=0.0, dropout=0.0)
    config = make_config(epochs=3, penalty=0.0, log_sigma2=-40.0, threshold=100.0)
    recipe = make_recipe(factors, len(IMAGES.train))
    plain = train_members_torch(NETWORK, recipe, draw_start(), IMAGES, 3, CPU)
    found = train(config, factors)
    np.testing.assert_allclose(found.weights, plain.weights, atol=2e-3)
    assert (found.properties["sparsity"] == 0).all()


def test_what_is_measured_is_the_network_that_is_kept():
    config = make_config(epochs=3, penalty=20.0, variance_lr=0.5)
    found = train(config)
    zeros = (found.weights == 0).mean(-1)
    np.testing.assert_allclose(found.properties["sparsity"], zeros, atol=1e-6)
    again = train(make_config(kind="magnitude", sparsities=[0.0]), start=torch.from_numpy(found.weights[:, -1].copy()))
    np.testing.assert_array_equal(again.properties["test_accuracy"][:, 0], found.properties["test_accuracy"][:, -1])


@pytest.mark.parametrize("method", [{}, {"kind": "magnitude", "epochs": 1}])
def test_neighbours_and_their_order_change_nothing(method):
    factors, start, config = make_factors(4, optimizer=["adam", "sgd"] * 2), draw_start(), make_config(**method)
    together = train(config, factors, start)
    for member in range(4):
        alone = train(config, factors.iloc[[member]], start[[member]])
        np.testing.assert_allclose(alone.weights[0], together.weights[member], rtol=1e-3, atol=1e-5)


def test_pruned_numbers_stay_zero_while_the_others_train_on():
    found = train(make_config(kind="magnitude", sparsities=[0.5, 0.8], epochs=2))
    assert count_checkpoints(make_config(kind="magnitude", epochs=2)) == found.weights.shape[1] == 7
    half, most = round(0.5 * LAYOUT.num_weights), round(0.8 * LAYOUT.num_weights)
    zeros = found.weights == 0
    assert (zeros.sum(-1) == [0, half, half, half, most, most, most]).all()
    assert (zeros[:, 1] <= zeros[:, 4]).all()
    moved = found.weights[:, 1] != found.weights[:, 3]
    assert (moved | zeros[:, 1]).all()


def test_a_member_that_had_diverged_has_a_diverged_twin_and_disturbs_nobody():
    start = draw_start()
    start[1] = torch.nan
    for config in (make_config(), make_config(kind="magnitude")):
        found = train(config, start=start)
        assert np.isnan(found.weights[1]).any(-1).all()
        assert np.isfinite(found.weights[[0, 2, 3]]).all()
