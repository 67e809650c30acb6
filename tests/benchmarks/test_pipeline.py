"""The study that the pipeline benchmark makes up."""

import contextlib
import json
import shutil

import benchmarks.pipeline
from benchmarks.figures import find_expected
from benchmarks.pipeline import CHECKOUT, NUM_STAGES, make_study_of_30, measure
from flows.params import PARAMS_NAME, read_study
from weightspace.networks import build_cnn_s
from weightspace.zoo.members import draw_members


def test_the_study_of_30_stages_is_one_that_runs(tmp_path):
    (tmp_path / PARAMS_NAME).write_text(json.dumps(make_study_of_30(read_study(CHECKOUT))))
    study = read_study(tmp_path)
    assert len(study.images) + len(study.zoo) == NUM_STAGES
    for config in study.zoo.values():
        assert len(draw_members(config.members, build_cnn_s())) == 2


def test_it_gives_the_figures_that_are_declared(tmp_path, monkeypatch):
    shutil.copyfile(CHECKOUT / PARAMS_NAME, tmp_path / PARAMS_NAME)
    monkeypatch.setattr(benchmarks.pipeline, "fresh_copy", lambda: contextlib.nullcontext(tmp_path))
    monkeypatch.setattr(benchmarks.pipeline, "serving", lambda folder: contextlib.nullcontext("http://127.0.0.1"))
    monkeypatch.setattr(benchmarks.pipeline, "run_timed", lambda *_: (2.0, 2**30))
    figures = measure()
    assert {f"pipeline.{name}" for name in figures} == set(find_expected("pipeline", quick=False))
    assert figures["run_over_repro"] == figures["noop30_server_over_dvc"] == 1.0
