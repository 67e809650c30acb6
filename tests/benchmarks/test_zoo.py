import pytest

from benchmarks.zoo import CASES, build_module, count_flops
from weightspace.networks import build_cnn_s, build_layout


@pytest.mark.parametrize("case", CASES)
def test_the_baseline_trains_the_network_that_the_engines_train(case):
    architecture, _ = CASES[case]
    assert sum(p.numel() for p in build_module(architecture).parameters()) == build_layout(architecture).num_weights


def test_counted_work_is_that_of_one_image():
    # Multiply-adds of CNN-s by hand: forward, then backward only through what won a maximum.
    forward = 115_200 + 76_800 + 864 + 720 + 200
    weights = 28_800 + 19_200 + 864 + 720 + 200
    inputs = 19_200 + 864 + 720 + 200
    assert count_flops(build_cnn_s()) == 2 * (forward + weights + inputs)
