import re

import numpy as np
import pytest

from tests.weightspace.report.made_up import Plan, make_table
from weightspace.record import Record
from weightspace.report.members import (
    MEASURES,
    MOST_LINES,
    Lines,
    choose_lines,
    describe_lines,
    draw_members_curves,
    measure_band,
)
from weightspace.report.read import Entry, pick

ACCURACY, LOSS = MEASURES


def make_entry(table, name="tiny"):
    record = Record(stage="zoo", name=name, config={}, inputs={}, libraries={}, device="cpu", files={})
    return Entry(record, {"checkpoints": table}, {})


def make(members, epochs):
    return make_table(Plan(num_members=members, num_epochs=epochs), np.random.default_rng(0))


def test_each_member_is_a_line_of_its_own_values():
    table = make(5, 4)
    lines = choose_lines(table, ACCURACY)
    assert lines.num_members == len(lines.curves) == 5
    first = table[table["member"] == "m00000"]
    np.testing.assert_allclose(lines.curves[0], np.stack([first["epoch"], 100 * first["test_accuracy"]], axis=1))


def test_of_many_members_a_seed_chooses_some():
    table = make(MOST_LINES + 50, 1)
    one, other = choose_lines(table, LOSS), choose_lines(table, LOSS)
    assert (len(one.curves), one.num_members) == (MOST_LINES, MOST_LINES + 50)
    assert all((a == b).all() for a, b in zip(one.curves, other.curves, strict=True))


def test_band_is_of_all_members_and_leaves_out_what_diverged():
    sound = pick(make(300, 3), diverged=False)
    epochs, band = measure_band(sound, ACCURACY)
    assert epochs.tolist() == [0, 1, 2, 3]
    last = 100 * sound.loc[sound["epoch"] == 3, "test_accuracy"].to_numpy(float)
    np.testing.assert_allclose(band[:, 3], np.quantile(last, (0.1, 0.5, 0.9)))


def test_caption_counts_the_lines_and_those_that_diverged():
    accuracy, loss = draw_members_curves(make_entry(make(MOST_LINES + 50, 2)))
    assert (accuracy.name, loss.name) == ("zoo_tiny_members_accuracy", "zoo_tiny_members_loss")
    assert "200 of 249 members, chosen by chance, and 1 that diverged" in accuracy.caption
    assert "few losses lie outside" in loss.caption
    assert accuracy.alt.startswith("Test accuracy of 201 members over epochs")


def test_caption_of_many_members_of_which_none_diverged_is_a_sentence():
    caption = describe_lines(ACCURACY, Lines([np.zeros((2, 2))] * 200, 512), Lines([], 0))
    assert caption.startswith("The test accuracy of each member: 200 of 512 members, chosen by chance. Median")


def test_a_large_zoo_makes_a_small_drawing():
    drawings = draw_members_curves(make_entry(make(1000, 50)))
    assert max(len(plot.svg) for plot in drawings) < 400_000
    assert all(len(re.findall(rb"<image ", plot.svg)) == 1 for plot in drawings)


@pytest.mark.parametrize("change", ["one epoch", "nothing measured", "all diverged"])
def test_nothing_is_drawn_where_there_is_nothing_to_see(change):
    table = make(4, 2)
    if change == "one epoch":
        table = table[table["epoch"] == 2]
    if change == "nothing measured":
        table = table.drop(columns="test_loss").assign(test_accuracy=np.nan)
    if change == "all diverged":
        table = table.assign(diverged=True)
    assert draw_members_curves(make_entry(table)) == []
