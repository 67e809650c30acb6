import json

import pytest

from benchmarks.figures import find_expected
from benchmarks.zoo import CASES, GPU_CASE, build_module, choose_cases, count_flops, measure
from weightspace.config import BadInput
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


def test_the_published_zoo_is_measured_where_there_is_a_gpu_only():
    assert choose_cases("", gpu=False) == [*CASES]
    assert choose_cases("", gpu=True) == [*CASES, GPU_CASE]
    with pytest.raises(BadInput, match="CUDA"):
        choose_cases(GPU_CASE, gpu=False)
    with pytest.raises(BadInput, match="cnn_x"):
        choose_cases("cnn_s_b10,cnn_x", gpu=True)


def test_figures_of_a_gpu_are_expected_of_a_machine_with_one():
    more = set(find_expected("zoo", quick=False, gpu=True)) - set(find_expected("zoo", quick=False))
    assert more == {"zoo.mnist_seed_s", "zoo.mnist_seed_floor_fraction"}


def test_a_folder_for_reports_that_is_missing_is_told_before_anything_is_measured():
    with pytest.raises(BadInput, match=r"--reports: got 'nowhere', but there is no folder .*nowhere"):
        measure(reports="nowhere")


@pytest.mark.slow
def test_a_run_leaves_a_report_with_spread(tmp_path):
    figures = measure("cnn_s_b10", rounds=1, reports=str(tmp_path))
    (path,) = tmp_path.iterdir()
    (run,) = json.loads(path.read_text())["runs"]
    assert run["figures"] == figures
    assert set(run["images_x_members_per_s"]["cnn_s_b10"]) == {
        "data loader",
        "one process per core",
        "torch",
        "fused_cpu",
    }
