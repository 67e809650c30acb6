"""The study that the pipeline benchmark makes up."""

import json

from benchmarks.pipeline import CHECKOUT, NUM_STAGES, make_study_of_30
from flows.params import PARAMS_NAME, read_study
from weightspace.networks import build_cnn_s
from weightspace.zoo.members import draw_members


def test_the_study_of_30_stages_is_one_that_runs(tmp_path):
    (tmp_path / PARAMS_NAME).write_text(json.dumps(make_study_of_30(read_study(CHECKOUT))))
    study = read_study(tmp_path)
    assert len(study.images) + len(study.zoo) == NUM_STAGES
    for config in study.zoo.values():
        assert len(draw_members(config.members, build_cnn_s())) == 2
