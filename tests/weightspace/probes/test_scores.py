import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import r2_score

from weightspace.probes.scores import draw_resampling, score_accuracy, score_kendall_tau, score_r2

MEMBERS = np.repeat([f"m{i:02d}" for i in range(15)], np.random.default_rng(1).integers(1, 7, 15))


def draw_pair(ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(len(MEMBERS))
    prediction = truth + generator.standard_normal(len(MEMBERS))
    return (truth.round(), prediction.round()) if ties else (truth, prediction)


def lay_out_rounds(counts: np.ndarray) -> list[np.ndarray]:
    """The rows of each round, written out."""
    names = np.unique(MEMBERS)
    return [
        np.concatenate([np.flatnonzero(names[i] == MEMBERS) for i in np.repeat(np.arange(15), c.astype(int))])
        for c in counts
    ]


def test_r2_is_scikit_learns():
    truth, prediction = draw_pair()
    score = score_r2(truth, prediction, draw_resampling(MEMBERS, 10, 0))
    assert score.value == pytest.approx(r2_score(truth, prediction))


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_tau_is_scipys(ties):
    truth, prediction = draw_pair(ties)
    score = score_kendall_tau(truth, prediction, draw_resampling(MEMBERS, 10, 0))
    assert score.value == pytest.approx(kendalltau(truth, prediction).statistic)


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_are_those_of_members_drawn_and_scored_one_by_one(ties):
    truth, prediction = draw_pair(ties)
    resampling = draw_resampling(MEMBERS, 50, 0)
    rounds = lay_out_rounds(resampling.counts)
    scorers = {
        score_r2: r2_score,
        score_kendall_tau: lambda a, b: kendalltau(a, b).statistic,
        score_accuracy: lambda a, b: (a == b).mean(),
    }
    for ours, theirs in scorers.items():
        score = ours(truth, prediction, resampling)
        expected = np.quantile([theirs(truth[rows], prediction[rows]) for rows in rounds], [0.025, 0.975])
        np.testing.assert_allclose([score.low, score.high], expected, atol=1e-9)


def test_the_interval_covers_what_it_should_and_one_over_checkpoints_would_not():
    """200 data sets of 40 members with 8 alike checkpoints each; the true accuracy is 0.6."""
    generator = np.random.default_rng(0)
    members = np.repeat(np.arange(40), 8)
    resampling = draw_resampling(members, 300, 0)
    single = draw_resampling(np.arange(320), 300, 0)
    truth = np.ones(320)
    covered = covered_singly = 0
    for _ in range(200):
        right = np.repeat(generator.random(40) < 0.6, 8).astype(float)
        score, alone = score_accuracy(truth, right, resampling), score_accuracy(truth, right, single)
        covered += score.low <= 0.6 <= score.high
        covered_singly += alone.low <= 0.6 <= alone.high
    assert covered >= 180
    assert covered_singly <= 120


def test_a_truth_that_never_varies_has_no_score():
    score = score_r2(np.ones(len(MEMBERS)), draw_pair()[0], draw_resampling(MEMBERS, 10, 0))
    assert np.isnan(score.value)
    assert np.isnan(score.low)


def test_the_same_seed_draws_the_same_members():
    one, again, other = (draw_resampling(MEMBERS, 10, seed).counts for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


def test_rows_of_one_member_must_lie_together():
    with pytest.raises(AssertionError):
        draw_resampling(np.array(["a", "b", "a"]), 10, 0)
