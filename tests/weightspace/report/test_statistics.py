import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import r2_score

from weightspace.report.statistics import estimate_difference, estimate_mean, estimate_over_runs, estimate_r2_lead


def test_mean_lies_within_its_interval():
    figure = estimate_mean(np.random.default_rng(0).normal(3, 1, 50))
    assert figure.low < figure.value < figure.high


def test_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(0, 1, 400)
    figure = estimate_mean(values)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_copies_of_a_member_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(0, 1, 30)
    alone = estimate_mean(values)
    copied = estimate_mean(np.repeat(values, 10), np.repeat(np.arange(30), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_values_that_are_not_finite_are_left_out():
    assert estimate_mean(np.array([1.0, np.nan, 3.0, np.inf])).value == 2


def test_mean_of_nothing_is_not_a_number():
    assert np.isnan(estimate_mean(np.array([np.nan])).value)


def test_difference_changes_sign_with_its_sides():
    a, b = np.random.default_rng(0).normal(0, 1, (2, 40))
    assert estimate_difference(a, b).value == pytest.approx(-estimate_difference(b, a).value)


def test_r2_lead_is_the_difference_of_scikit_learns_scores():
    generator = np.random.default_rng(0)
    truth = generator.normal(5, 1, 60)
    first, second = truth + generator.normal(0, 0.3, 60), truth + generator.normal(0, 0.6, 60)
    lead = estimate_r2_lead(truth, first, second, np.repeat(np.arange(12), 5))
    assert lead.value == pytest.approx(r2_score(truth, first) - r2_score(truth, second))
    assert lead.low < lead.value < lead.high


def test_equal_predictions_have_no_lead():
    truth = np.arange(20.0)
    lead = estimate_r2_lead(truth, truth + 1, truth + 1, np.repeat(np.arange(5), 4))
    assert (lead.low, lead.value, lead.high) == (0, 0, 0)


def test_interval_over_runs_is_students():
    runs = np.array([0.3, 0.5, 0.45])
    figure, wanted = estimate_over_runs(runs), ttest_1samp(runs, 0).confidence_interval(0.95)
    assert (figure.low, figure.value, figure.high) == pytest.approx((wanted.low, runs.mean(), wanted.high))


def test_a_single_run_has_no_interval():
    figure = estimate_over_runs([0.3])
    assert figure.value == 0.3
    assert np.isnan([figure.low, figure.high]).all()
