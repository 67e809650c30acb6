import pytest

from tests.weightspace.report.made_up import Plan, write_study
from weightspace.factors import FACTORS
from weightspace.report.config import ReportConfig
from weightspace.report.page import build_report
from weightspace.report.read import read_study
from weightspace.report.zoo import find_factors


@pytest.mark.parametrize("name", [name for name in FACTORS if name != "seed"])
def test_a_factor_that_differs_between_members_is_found(study, name):
    table = study.first("zoo").table("checkpoints")
    known = table[name].tolist() if name in table else ["a", "b"] * (len(table) // 2)
    same, unlike = table.assign(**{name: known[0]}), table.assign(**{name: [known[0], *known[1:]]})
    assert name not in find_factors(same)
    assert (name in find_factors(unlike)) == (len(set(known)) > 1)


def test_schedule_label_noise_and_augmentation_are_shown_where_they_differ(tmp_path):
    data = write_study(tmp_path, Plan(stages=("zoo",), recipes=True))
    config = ReportConfig(title="t")
    report = build_report(read_study(data, config), config)
    names = {plot.name for plot in report.plots}
    for factor in ("schedule", "label_noise", "augmentation"):
        assert f"zoo_tiny_by_{factor}" in names
        assert f'<th scope="row">{factor.replace("_", " ")}</th>' in report.html
