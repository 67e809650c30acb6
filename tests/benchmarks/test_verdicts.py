import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.figures import FIGURES
from benchmarks.history import SCHEMA, Measured, tabulate_run
from benchmarks.verdicts import RECENT, WIDEST, judge_figures
from tests.benchmarks.made_up import COST, COUNT, LOSS, SCIENCE, SPEED, TIME, make_up_run


def judge(name, *values):
    """Judge the last of some values of a figure by those before it."""
    runs = [make_up_run(number, {name: value}) for number, value in enumerate(values)]
    past = pa.concat_tables([SCHEMA.empty_table(), *map(tabulate_run, runs[:-1])]).to_pandas()
    return judge_figures(runs[-1].figures, past)[0]


def test_the_first_run_has_no_reference():
    verdict = judge(SPEED, 15.0)
    assert (verdict.word, verdict.reference, verdict.change) == ("no reference", None, None)


def test_a_planted_regression_is_found():
    verdict = judge(SPEED, 15.0, 15.2, 14.9, 15.1, 15.0, 9.0)
    assert verdict.word == "worse"
    assert verdict.reference.value == 15.0
    assert verdict.change == pytest.approx(-0.4)


def test_noise_within_the_tolerance_is_not():
    assert judge(SPEED, 15.0, 15.2, 14.9, 15.1, 15.0, 15.0 * (1.01 - FIGURES[SPEED].tolerance)).word == "level"


def test_better_where_lower_is_better_is_lower():
    assert FIGURES[COST].better == "lower"
    assert judge(COST, 1.0, 2.0).word == "worse"


def test_less_of_what_should_be_low_is_better():
    assert judge(COST, 1.0, 0.4).word == "better"


def test_spread_of_the_runs_before_widens_the_tolerance():
    # Median 15, deviations 5, 3, 0, 3, 5: three standard deviations are 3 x 1.4826 x 3, in parts of 15.
    verdict = judge(SPEED, 10.0, 12.0, 15.0, 18.0, 20.0, 15.0 * 0.5)
    assert verdict.tolerance == pytest.approx(min(3 * 1.4826 * 3 / 15, WIDEST * FIGURES[SPEED].tolerance))
    assert verdict.tolerance > FIGURES[SPEED].tolerance
    assert verdict.word == "level"


def test_a_history_that_jumps_about_does_not_excuse_everything():
    assert judge(SPEED, 1.0, 40.0, 20.0, 60.0, 3.0, 1.0).word == "worse"


def test_two_runs_tell_no_spread():
    assert judge(SPEED, 10.0, 20.0, 15.0).tolerance == FIGURES[SPEED].tolerance


def test_only_the_last_runs_count():
    verdict = judge(SPEED, *[30.0] * 10, *[15.0] * RECENT, 15.0)
    assert (verdict.reference.value, verdict.num_runs, verdict.word) == (15.0, RECENT, "level")


def test_seconds_are_shown_and_never_judged():
    verdict = judge(TIME, 1.0, 1.0, 1.0, 100.0)
    assert (verdict.word, verdict.reference.value) == ("not judged", 1.0)


def test_a_count_that_should_be_the_same_has_no_tolerance():
    assert judge(COUNT, 1.0, 1.0, 1.0, 0.999).word == "worse"


@pytest.mark.parametrize(
    ("name", "low", "high", "word"),
    [
        (SCIENCE, 0.80, 0.88, "worse"),
        (SCIENCE, 0.80, 0.89, "level"),
        (SCIENCE, 0.90, 0.92, "level"),
        (SCIENCE, 0.94, 0.99, "better"),
        (LOSS, 0.80, 0.88, "better"),
        (LOSS, 0.94, 0.99, "worse"),
    ],
)
def test_science_is_worse_when_its_interval_lies_wholly_beyond(name, low, high, word):
    verdict = judge(name, Measured(0.91, 0.89, 0.93), Measured((low + high) / 2, low, high))
    assert verdict.word == word
    assert verdict.tolerance is None


@settings(max_examples=30)
@given(values=st.lists(st.floats(1.0, 100.0), min_size=2, max_size=8), scale=st.sampled_from([0.125, 4.0, 1024.0]))
def test_a_verdict_does_not_depend_on_the_unit(values, scale):
    assert judge(SPEED, *values).word == judge(SPEED, *(scale * value for value in values)).word


def test_normal_noise_seldom_looks_worse():
    """With noise of a third of the tolerance, few of 60 runs that changed nothing are found worse."""
    generator = np.random.default_rng(0)
    values = 15.0 * (1 + FIGURES[SPEED].tolerance / 3 * generator.standard_normal(60 + RECENT))
    words = [judge(SPEED, *values[i - RECENT : i + 1]).word for i in range(RECENT, len(values))]
    assert words.count("worse") <= 1
