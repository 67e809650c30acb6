import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind
from sklearn.metrics import r2_score

from weightspace.report.blocks import Interval
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


@pytest.mark.parametrize("num", [2, 3, 5, 8, 19, 32])
def test_interval_holds_the_mean_as_often_as_it_says(num):
    draws = np.random.default_rng(0).normal(0, 1, (1000, num))
    figures = [estimate_mean(values) for values in draws]
    held = np.mean([figure.low <= 0 <= figure.high for figure in figures])
    assert held == pytest.approx(0.95, abs=0.03)  # of 1,000 rounds the share itself is sure to 0.014


@pytest.mark.parametrize("nums", [(3, 3), (3, 32), (8, 32)])
def test_interval_of_a_difference_of_few_holds_it_as_often_as_it_says(nums):
    generator = np.random.default_rng(0)
    pairs = [[generator.normal(0, 1, num) for num in nums] for _ in range(1000)]
    figures = [estimate_difference(*pair) for pair in pairs]
    assert np.mean([figure.low <= 0 <= figure.high for figure in figures]) == pytest.approx(0.95, abs=0.04)


def test_interval_of_a_lead_over_few_members_holds_it_as_often_as_it_says():
    generator, figures = np.random.default_rng(0), []
    for _ in range(500):
        truth = generator.normal(0, 1, (5, 1)) + generator.normal(0, 0.5, (5, 6))
        errors = [np.broadcast_to(generator.normal(0, scale, (5, 1)), (5, 6)) for scale in (0.3, 0.4)]
        first, second = (truth + error for error in errors)
        members = np.repeat(np.arange(5), 6)
        figures.append(estimate_r2_lead(truth.ravel(), first.ravel(), second.ravel(), members))
    lead = (0.4**2 - 0.3**2) / (1 + 0.5**2)
    assert np.mean([figure.low <= lead <= figure.high for figure in figures]) == pytest.approx(0.95, abs=0.05)


def test_interval_of_few_is_students_and_that_of_a_difference_welchs():
    first, second = np.random.default_rng(0).normal(0, 1, 4), np.random.default_rng(1).normal(0, 3, 9)
    figure, wanted = estimate_mean(first), ttest_1samp(first, 0).confidence_interval(0.95)
    assert (figure.low, figure.high) == pytest.approx((wanted.low, wanted.high))
    figure, wanted = estimate_difference(first, second), ttest_ind(first, second, equal_var=False)
    wanted = wanted.confidence_interval(0.95)
    assert (figure.low, figure.high) == pytest.approx((wanted.low, wanted.high))


def test_copies_of_few_members_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(0, 1, 4)
    alone, copied = estimate_mean(values), estimate_mean(np.repeat(values, 10), np.repeat(np.arange(4), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_one_unit_has_no_interval():
    alone = estimate_mean([0.93])
    of_one_member = estimate_mean([0.9, 0.96], ["m", "m"])
    lead = estimate_difference([0.93], np.linspace(0, 0.5, 32))
    r2 = estimate_r2_lead(np.arange(3.0), np.arange(3.0), np.zeros(3), ["m", "m", "m"])
    assert (alone.value, of_one_member.value) == (0.93, pytest.approx(0.93))
    assert not any(figure.is_bounded for figure in (alone, of_one_member, lead, r2))


def test_units_that_are_all_alike_have_an_interval_without_width():
    assert estimate_mean([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert estimate_difference([0.5, 0.5], [0.25, 0.25]) == Interval(0.25, 0.25, 0.25)


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
