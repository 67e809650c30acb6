import numpy as np
import pytest
from scipy.stats import norm, rankdata

from weightspace.probes.scaling import scale_columns, score_ranks

TRAIN = np.arange(60)
VALUES = np.random.default_rng(0).standard_normal((100, 4)) * [0.01, 1, 10, 1000] + 3


def test_without_scaling_values_stay():
    assert (scale_columns(VALUES, TRAIN, "none") == VALUES).all()


@pytest.mark.parametrize("scaling", ["standard", "ranks"])
def test_train_rows_have_mean_0_and_standard_deviation_1(scaling):
    scaled = scale_columns(VALUES, TRAIN, scaling)[TRAIN]
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(0), 1)


@pytest.mark.parametrize("scaling", ["standard", "ranks"])
def test_other_rows_do_not_decide_the_scale(scaling):
    changed = VALUES.copy()
    changed[60:] *= 7
    one, other = (scale_columns(values, TRAIN, scaling) for values in (VALUES, changed))
    assert (one[TRAIN] == other[TRAIN]).all()


@pytest.mark.parametrize("scaling", ["standard", "ranks"])
def test_a_column_that_never_varies_among_train_rows_says_nothing(scaling):
    values = VALUES.astype(np.float32)
    values[:, 1] = 0.1
    values[60:, 1] = 5
    assert (scale_columns(values, TRAIN, scaling)[:, 1] == 0).all()


def test_units_do_not_matter():
    one, other = (scale_columns(values, TRAIN, "standard") for values in (VALUES, 1000 * VALUES - 7))
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_ranks_ignore_any_monotone_change():
    one, other = (scale_columns(values, TRAIN, "ranks") for values in (VALUES / 1000, np.exp(VALUES / 1000)))
    np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("decimals", [8, 0])
def test_rank_scores_are_normal_scores_of_mid_ranks(decimals):
    """With no decimals there are ties."""
    column = VALUES[:, 1].round(decimals)
    expected = norm.ppf((rankdata(column[TRAIN]) - 0.5) / 60)
    np.testing.assert_allclose(score_ranks(column, TRAIN)[TRAIN], expected, atol=1e-12)


def test_a_huge_value_is_no_farther_than_the_largest_of_train():
    column = VALUES[:, 1].copy()
    column[70] = 1e30
    scores = score_ranks(column, TRAIN)
    assert scores[70] == scores[TRAIN].max()
