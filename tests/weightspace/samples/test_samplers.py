import numpy as np
import pandas as pd
import pytest

from tests.weightspace.samples.small_study import LAYOUT
from weightspace.samples.anchors import Anchors
from weightspace.samples.config import AbsoluteBandwidth, KdeIndependent, KdeJoint, KdeReleased, RelativeBandwidth
from weightspace.samples.samplers import measure_scale, perturb_weights, sample_latents

TINY = AbsoluteBandwidth(kind="absolute", value=1e-4)
KINDS = [
    KdeJoint(kind="kde_joint", bandwidth=TINY),
    KdeIndependent(kind="kde_independent", bandwidth=TINY),
    KdeReleased(kind="kde_released", bandwidth=TINY),
]


def build_anchors(num: int = 12) -> Anchors:
    """Latents of two activations lie 100 apart."""
    activation = np.array(["relu", "tanh"])[np.arange(num) % 2]
    latents = np.random.default_rng(0).standard_normal((num, 5, 4)) + 100 * (activation == "tanh")[:, None, None]
    table = pd.DataFrame({"member": [f"m{i}" for i in range(num)], "activation": activation})
    return Anchors(table, np.zeros((num, LAYOUT.num_weights), np.float32), latents.astype(np.float32))


def find_sources(anchors: Anchors, latents: np.ndarray) -> np.ndarray:
    """Which anchor each number of each sample is nearest to."""
    return np.abs(latents[:, None] - anchors.latents[None]).argmin(1)


def test_joint_takes_every_number_from_one_anchor():
    anchors = build_anchors()
    latents, picks = sample_latents(KINDS[0], anchors, 20, np.random.default_rng(0))
    assert (find_sources(anchors, latents) == picks[:, None, None]).all()


def test_independent_mixes_anchors():
    anchors = build_anchors()
    latents, _ = sample_latents(KINDS[1], anchors, 20, np.random.default_rng(0))
    sources = find_sources(anchors, latents)
    assert all(len(np.unique(sample)) > 1 for sample in sources)


def test_independent_takes_neighbouring_numbers_from_unlike_anchors():
    anchors = build_anchors()
    latents, _ = sample_latents(KINDS[1], anchors, 400, np.random.default_rng(0))
    sources = find_sources(anchors, latents)
    # Six anchors an activation: two numbers agree by chance in one case of six.
    assert abs((sources[:, 0, 0] == sources[:, 0, 1]).mean() - 1 / 6) < 0.06


def test_released_adds_one_number_to_all_latents_of_an_anchor():
    anchors = build_anchors()
    wide = KdeReleased(kind="kde_released", bandwidth=AbsoluteBandwidth(kind="absolute", value=1.0))
    latents, picks = sample_latents(wide, anchors, 20, np.random.default_rng(0))
    offsets = (latents - anchors.latents[picks]).reshape(20, -1)
    assert np.ptp(offsets, axis=1).max() < 1e-4
    assert np.ptp(offsets[:, 0]) > 1


def test_joint_noise_differs_from_number_to_number_and_sample_to_sample():
    wide = KdeJoint(kind="kde_joint", bandwidth=AbsoluteBandwidth(kind="absolute", value=1.0))
    anchors = build_anchors()
    latents, picks = sample_latents(wide, anchors, 200, np.random.default_rng(0))
    noise = latents - anchors.latents[picks]
    assert len(np.unique(noise.round(4))) > 0.9 * noise.size
    assert abs(noise.std() - 1) < 0.05


@pytest.mark.parametrize("sampler", KINDS, ids=lambda sampler: sampler.kind)
def test_no_sample_mixes_activations(sampler):
    latents, picks = sample_latents(sampler, build_anchors(), 20, np.random.default_rng(0))
    is_tanh = latents > 50
    assert (is_tanh == is_tanh[:, :1, :1]).all()
    assert (is_tanh[:, 0, 0] == (picks % 2 == 1)).all()


@pytest.mark.parametrize("sampler", KINDS, ids=lambda sampler: sampler.kind)
def test_one_seed_gives_the_same_samples_and_a_generator_goes_on(sampler):
    anchors = build_anchors()
    generator = np.random.default_rng(3)
    first, second = (sample_latents(sampler, anchors, 8, generator)[0] for _ in range(2))
    again, _ = sample_latents(sampler, anchors, 8, np.random.default_rng(3))
    assert (first == again).all()
    assert (first != second).any()


def test_relative_bandwidth_ignores_the_distance_between_activations():
    scale = measure_scale(RelativeBandwidth(kind="relative", value=0.5), build_anchors(num=2000))
    assert np.abs(scale - 0.5).max() < 0.05


def test_weight_noise_is_relative_to_each_layer():
    weights = np.random.default_rng(0).standard_normal((300, LAYOUT.num_weights)).astype(np.float32)
    weights[:, LAYOUT.layer_slice(1)] *= 10
    noise = perturb_weights(LAYOUT, weights, 0.1, np.random.default_rng(1)) - weights
    assert abs(noise[:, LAYOUT.layer_slice(0)].std() - 0.1) < 0.01
    assert abs(noise[:, LAYOUT.layer_slice(1)].std() - 1.0) < 0.1
