import numpy as np
import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.factors import FACTORS
from weightspace.report.config import ReportConfig
from weightspace.report.metrics import gather_metrics
from weightspace.report.page import build_report
from weightspace.report.read import read_study
from weightspace.report.summary import summarize
from weightspace.report.zoo import draw_accuracies, find_factors, measure_curves, share_near_chance


@pytest.mark.parametrize("name", [name for name in FACTORS if name != "seed"])
def test_a_factor_that_differs_between_members_is_found(study, name):
    table = study.first("zoo").table("checkpoints")
    known = table[name].tolist() if name in table else ["a", "b"] * (len(table) // 2)
    same, unlike = table.assign(**{name: known[0]}), table.assign(**{name: [known[0], *known[1:]]})
    assert name not in find_factors(same)
    assert (name in find_factors(unlike)) == (len(set(known)) > 1)


def read_zoo(folder, **plan):
    study = read_study(write_study(folder, Plan(num_members=20, stages=("zoo",), **plan)), ReportConfig(title="t"))
    return study, study.first("zoo")


def test_members_without_final_accuracy_are_left_out_and_counted(tmp_path):
    study, zoo = read_zoo(tmp_path, unknown=(7, 3))
    table = zoo.table("checkpoints")
    ends = table.loc[(table["epoch"] == 3) & ~table["diverged"], "test_accuracy"]
    known = ends.dropna().to_numpy(np.float64)
    assert (len(ends), len(known)) == (19, 13)  # the one that diverged is among the seven
    assert gather_metrics(study)["zoo"]["accuracy_median"] == pytest.approx(np.median(known), rel=1e-5)
    assert share_near_chance(zoo) == np.mean(known < 0.2)
    assert measure_curves(table).median[-1] == pytest.approx(100 * np.median(known))
    text = summarize(study)[0].text
    assert f"is right on {100 * np.median(known):.1f}% of the test images" in text
    assert "(known of 13 of 19 members); 1 diverged" in text
    assert draw_accuracies(zoo).caption == "How good members are after epoch 3 (known of 13 of 19 members)."
    assert "Histogram of the final test accuracy of 13 members" in draw_accuracies(zoo).alt


def test_members_are_not_counted_where_all_are_known(tmp_path):
    study, zoo = read_zoo(tmp_path)
    assert "known of" not in summarize(study)[0].text + draw_accuracies(zoo).caption


@pytest.mark.parametrize(("start", "shown"), [(0, set()), (3, {"curves", "members_accuracy"})])
def test_a_zoo_whose_final_accuracy_is_unknown_is_shown_without_it(tmp_path, start, shown):
    study, zoo = read_zoo(tmp_path, unknown=(20, start))
    plots = {plot.name.removeprefix("zoo_tiny_") for plot in build_report(study, ReportConfig(title="t")).plots}
    assert {name for name in plots if not name.startswith("by_")} == {*shown, "members_loss"}
    assert share_near_chance(zoo) is None
    assert "How good they are at the end is not known; 1 diverged." in summarize(study)[0].text
    assert "accuracy_median" not in gather_metrics(study)["zoo"]


def test_schedule_label_noise_and_augmentation_are_shown_where_they_differ(tmp_path):
    data = write_study(tmp_path, Plan(stages=("zoo",), recipes=True))
    config = ReportConfig(title="t")
    report = build_report(read_study(data, config), config)
    names = {plot.name for plot in report.plots}
    for factor in ("schedule", "label_noise", "augmentation"):
        assert f"zoo_tiny_by_{factor}" in names
        assert f'<th scope="row">{factor.replace("_", " ")}</th>' in report.html


@pytest.mark.parametrize(
    ("recipe", "told"), [({}, False), ({"train_metrics": "after"}, False), ({"train_metrics": "during"}, True)]
)
def test_training_accuracy_that_is_of_the_training_pass_is_told(tmp_path, recipe, told):
    study, _ = read_zoo(tmp_path, recipe=recipe)
    assert ("as they were learned from" in build_report(study, ReportConfig(title="t")).html) == told
