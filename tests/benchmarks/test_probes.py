import numpy as np

import benchmarks.probes
from benchmarks.figures import find_expected
from benchmarks.probes import PENALTIES, make_task, measure, predict_in_loops, score_in_loops
from weightspace.probes.ridge import predict_by_ridge
from weightspace.probes.scores import draw_resampling, score_kendall_tau, score_r2


def test_the_loops_find_what_we_find():
    task = make_task(64)
    ours = predict_by_ridge(task.features, task.targets, task.split, PENALTIES, True)
    np.testing.assert_allclose(predict_in_loops(task), ours, rtol=1e-6, atol=1e-8)
    truth, guess = task.targets[task.test, 0], ours[task.test, 0]
    resampling = draw_resampling(task.members[task.test], 50, 0)
    wanted = score_r2(truth, guess, resampling), score_kendall_tau(truth, guess, resampling)
    for found, score in zip(score_in_loops(truth, guess, resampling), wanted, strict=True):
        np.testing.assert_allclose(
            [found.value, found.low, found.high], [score.value, score.low, score.high], rtol=1e-9
        )


def test_it_gives_the_figures_that_are_declared(monkeypatch):
    for name, value in {"MEMBERS": 64, "ROUNDS": 10, "TURNS": 1}.items():
        monkeypatch.setattr(benchmarks.probes, name, value)
    assert {f"probes.{name}" for name in measure()} == set(find_expected("probes", quick=True))
