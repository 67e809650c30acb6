import numpy as np
import pandas as pd
import pytest
import torch

from tests.weightspace.samples.small_study import LAYOUT
from weightspace.embeddings import reconstruction
from weightspace.embeddings.reconstruction import ALL_LAYERS, fit_components, measure_errors, tabulate_errors

NAMES = [LAYOUT.layer_name(layer) for layer in range(LAYOUT.num_layers)]


@pytest.fixture
def weights():
    return torch.randn(12, LAYOUT.num_weights, generator=torch.Generator().manual_seed(0))


def test_error_of_the_identity_is_zero(weights):
    errors = measure_errors(LAYOUT, weights, weights, weights.mean(0))
    assert set(errors) == {*NAMES, ALL_LAYERS}
    assert all((error == 0).all() for error in errors.values())


def test_error_of_predicting_the_train_mean_is_one(weights):
    mean = weights[:7].mean(0)
    for error in measure_errors(LAYOUT, weights, mean.expand_as(weights), mean).values():
        np.testing.assert_allclose(error, 1, rtol=1e-6)


def test_error_of_a_layer_is_its_own(weights):
    changed = weights.clone()
    changed[:, LAYOUT.layer_slice(1)] += 1
    errors = measure_errors(LAYOUT, weights, changed, weights.mean(0))
    assert (errors[NAMES[1]] > 0).all()
    assert (errors[NAMES[0]] == 0).all()
    assert (errors[ALL_LAYERS] < errors[NAMES[1]]).all()


def test_table_lists_each_network_under_each_layer():
    rows = pd.DataFrame({"member": ["a", "b"], "epoch": [1, 2], "split": ["train", "val"], "lr": [0.1, 0.2]})
    errors = {"conv1": np.array([0.1, 0.2]), ALL_LAYERS: np.array([0.3, 0.4])}
    table = tabulate_errors(rows, "pca", errors)
    assert table.columns.tolist() == ["member", "epoch", "split", "method", "layer", "error"]
    assert table["member"].tolist() == ["a", "b", "a", "b"]
    assert table["layer"].tolist() == ["conv1", "conv1", ALL_LAYERS, ALL_LAYERS]
    assert table["error"].tolist() == [0.1, 0.2, 0.3, 0.4]


# Fewer networks than weights, and more.
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
@pytest.mark.parametrize("num", [1, 4, 11])
def test_components_lose_what_the_singular_values_say(shape, num):
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 3
    components = fit_components(weights, num)
    torch.testing.assert_close(components.directions @ components.directions.T, torch.eye(num), atol=1e-4, rtol=0)
    lost = float((components.reconstruct(weights) - weights).square().sum())
    values = torch.linalg.svdvals((weights - weights.mean(0)).double())
    assert lost == pytest.approx(float(values[num:].square().sum()), rel=1e-3, abs=1e-3)


def test_no_more_components_than_the_networks_span(weights):
    components = fit_components(weights, 500)
    assert len(components.directions) == len(weights) - 1
    torch.testing.assert_close(components.reconstruct(weights), weights, atol=1e-4, rtol=0)


def test_components_are_fitted_on_a_part_at_equal_steps(weights, monkeypatch):
    monkeypatch.setattr(reconstruction, "FIT_ROWS", 5)
    components = fit_components(weights, 3)
    torch.testing.assert_close(components.mean, weights[::3].mean(0))
