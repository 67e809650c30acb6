import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.weightspace.report.conftest import EVERYTHING
from tests.weightspace.report.made_up import Plan, write_study
from weightspace.report.hyperrep import project, score_normally, show_map
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


@pytest.mark.parametrize(("num_epochs", "colourings"), [(0, ["test_accuracy"]), (2, ["test_accuracy", "epoch"])])
def test_map_is_coloured_by_what_varies(tmp_path, num_epochs, colourings):
    data = write_study(tmp_path, Plan(num_epochs=num_epochs, stages=("embeddings",)))
    embeddings = read_study(data, EVERYTHING).first("embeddings")
    assert [plot.name.partition("_map_")[2] for plot in show_map(embeddings).plots] == colourings
