import numpy as np
import pytest
import torch

from weightspace.probes.ridge import Split, predict_by_ridge, solve_ridge

SPLIT = Split(np.arange(60), np.arange(60, 80))
GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((100, 12)) * np.geomspace(0.01, 10, 12) + 1
Y = X @ GENERATOR.standard_normal((12, 3)) + GENERATOR.standard_normal((100, 3))
PENALTIES = [1e-3, 1e-1, 10.0, 1e3]


def solve_normal_equations(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_published_form_solves_the_normal_equations_with_a_column_of_ones(penalty):
    found = predict_by_ridge(X, Y, SPLIT, [penalty], False)
    ones = np.concatenate([X, np.ones((100, 1))], axis=1)
    expected = ones @ solve_normal_equations(ones[:60], Y[:60], penalty)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("features", [5, 40])
def test_both_spaces_give_the_same_coefficients(features):
    """Twenty rows: five features are solved for in theirs, forty in that of the rows."""
    x, y = GENERATOR.standard_normal((20, features)), GENERATOR.standard_normal((20, 2))
    found = list(solve_ridge(torch.from_numpy(x), torch.from_numpy(y), PENALTIES))
    for coefficients, penalty in zip(found, sorted(PENALTIES, reverse=True), strict=True):
        np.testing.assert_allclose(coefficients, solve_normal_equations(x, y, penalty), rtol=1e-8, atol=1e-12)


def test_each_target_takes_the_penalty_that_is_best_on_validation_rows():
    found = predict_by_ridge(X, Y, SPLIT, PENALTIES, True)
    alone = [predict_by_ridge(X, Y, SPLIT, [penalty], True) for penalty in PENALTIES]
    errors = np.array([((p - Y)[SPLIT.val] ** 2).sum(0) for p in alone])
    for target, best in enumerate(errors.argmin(0)):
        np.testing.assert_allclose(found[:, target], alone[best][:, target])


def test_test_rows_have_no_say():
    changed = Y.copy()
    changed[80:] = 1e6
    found, again = (predict_by_ridge(X, y, SPLIT, PENALTIES, True) for y in (Y, changed))
    assert (found == again).all()


def test_a_free_intercept_is_not_penalised():
    found = predict_by_ridge(X - X[:60].mean(0), Y + 1e4, SPLIT, [1e12], True)
    np.testing.assert_allclose(found, np.broadcast_to((Y + 1e4)[:60].mean(0), found.shape), rtol=1e-6)


def test_a_penalty_that_rounding_swallows_is_left_out():
    x = torch.ones(30, 3, dtype=torch.float64) * 1e8
    y = torch.ones(30, 1, dtype=torch.float64)
    assert len(list(solve_ridge(x, y, [1e-12, 1e12]))) == 1
