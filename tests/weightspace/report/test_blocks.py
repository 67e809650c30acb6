import pytest

from weightspace.report.blocks import MINUS, MISSING, Interval, format_error, format_figure, join_words, make_cell

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, f"{MINUS}0.500"), (-0.0001, "0.000"), (NAN, MISSING), (float("-inf"), f"{MINUS}inf")],
)
def test_figures_are_written_with_a_real_minus_and_no_negative_zero(value, text):
    assert format_figure(value) == text


def test_a_small_error_is_not_written_as_none():
    assert [format_error(value) for value in (0.0, 3.14e-5, 0.25)] == ["0.000", "3.1e-05", "0.250"]


def test_a_figure_without_an_interval_has_none_in_its_cell():
    assert make_cell(Interval(0.5, NAN, NAN)).detail == ""


def test_words_are_listed_as_in_prose():
    assert [join_words(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
