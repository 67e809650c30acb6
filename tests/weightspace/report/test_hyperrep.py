from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from tests.weightspace.report.conftest import EVERYTHING
from tests.weightspace.report.made_up import Plan, write_study
from weightspace.hyperrep.config import Term
from weightspace.report.hyperrep import BEST, describe_training, project, score_normally, show_map
from weightspace.report.read import read_study


def test_map_is_that_of_scikit_learns_pca():
    points = np.random.default_rng(0).normal(0, 1, (40, 6)) * np.arange(1, 7)
    fit = np.arange(40) < 30
    places, shares = project(points, fit)
    pca = PCA(2).fit(points[fit])
    assert np.abs(places) == pytest.approx(np.abs(pca.transform(points)))
    assert shares == pytest.approx(pca.explained_variance_ratio_)


def test_normal_scores_do_not_depend_on_how_far_outliers_lie():
    points = np.random.default_rng(0).normal(0, 1, (30, 3))
    far = points.copy()
    far[points.argmax(0), np.arange(3)] *= 1000
    assert score_normally(far) == pytest.approx(score_normally(points))
    assert score_normally(points).mean(0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("term", get_args(Term))
def test_the_model_that_is_said_to_be_kept_is_best_by_the_term_that_it_was_kept_by(study, term):
    others = {f"val_{one}": [0.1, 0.2, 0.3] for one in get_args(Term)}
    history = pd.DataFrame({"step": [10, 20, 30], **others, f"val_{term}": [np.nan, 0.5, 0.6]})
    entry = study.first("hyperrep")
    config = {**entry.record.config, "training": {"keep_best": term}}
    record = entry.record.model_copy(update={"config": config})
    text = describe_training(replace(entry, record=record, tables={"history": history}))
    assert text == f"30 optimizer steps. Kept: the model at step 20, {BEST[term]}."


@pytest.mark.parametrize(("num_epochs", "colourings"), [(0, ["test_accuracy"]), (2, ["test_accuracy", "epoch"])])
def test_map_is_coloured_by_what_varies(tmp_path, num_epochs, colourings):
    data = write_study(tmp_path, Plan(num_epochs=num_epochs, stages=("embeddings",)))
    embeddings = read_study(data, EVERYTHING).first("embeddings")
    assert [plot.name.partition("_map_")[2] for plot in show_map(embeddings).plots] == colourings
