import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightspace.report.plot import draw_plot, spread


def paint(_figure, axes):
    axes.scatter(np.arange(50), np.arange(50) ** 2, rasterized=True)
    axes.set(xlabel="x")


def test_the_same_drawing_has_the_same_bytes():
    first, second = (draw_plot("p", paint, "caption", "alt").svg for _ in range(2))
    assert first == second


def test_a_drawing_carries_no_date():
    assert b"date" not in draw_plot("p", paint, "caption", "alt").svg.split(b"</metadata>")[0]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_keep_their_gap_and_their_order(positions):
    placed = spread(positions, 5, 0, 100)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(placed[order]) >= 5 - 1e-9).all()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_stay_within_bounds_while_there_is_room(positions):
    placed = spread(positions, 5, 0, 100)
    assert placed.min() >= -1e-9
    assert placed.max() <= 100 + 1e-9


def test_labels_that_do_not_collide_stay():
    assert spread([10, 90, 50], 5, 0, 100) == pytest.approx([10, 90, 50])
