import numpy as np
import torch

from tests.weightspace.samples.small_study import LAYOUT
from weightspace.samples.novelty import (
    Nearest,
    Placed,
    align_to,
    compare_errors,
    find_nearest,
    measure_distances,
    measure_spread,
    place_networks,
)
from weightspace.weights.permute import draw_permutations, permute_weights

ANCHORS = torch.randn(6, LAYOUT.num_weights, generator=torch.Generator().manual_seed(0))
REFERENCE = torch.randn(LAYOUT.num_weights, generator=torch.Generator().manual_seed(9))


def place(weights: torch.Tensor) -> Placed:
    return place_networks(LAYOUT, weights, REFERENCE)


def find(samples: torch.Tensor, candidates: int) -> Nearest:
    return find_nearest(LAYOUT, place(samples), place(ANCHORS), candidates)


def test_a_copy_is_at_distance_zero_of_its_original():
    nearest = find(ANCHORS[[3, 1]], candidates=1)
    assert nearest.anchor.tolist() == [3, 1]
    assert nearest.distance.tolist() == [0, 0]


def test_a_permuted_copy_is_at_distance_zero_too():
    order = draw_permutations(LAYOUT, 6, torch.Generator().manual_seed(1))
    nearest = find(permute_weights(LAYOUT, ANCHORS, order), candidates=6)
    assert nearest.anchor.tolist() == list(range(6))
    assert nearest.distance.max() < 1e-5


def test_a_slightly_changed_copy_is_known_by_its_first_candidate():
    """Alignment to a far reference alone would order some copies unlike their originals."""
    copies = ANCHORS + 0.3 * torch.randn(ANCHORS.shape, generator=torch.Generator().manual_seed(3))
    assert find(copies, candidates=1).anchor.tolist() == list(range(6))


def test_distances_are_those_of_the_nearer_order():
    both = torch.stack([ANCHORS[0], ANCHORS[0] + 0.01])
    pairs = measure_distances(place(both), place(both))
    assert pairs[0, 1] <= (both[0] - both[1]).norm() + 1e-6


def test_more_candidates_never_find_a_farther_anchor():
    samples = torch.randn(8, LAYOUT.num_weights, generator=torch.Generator().manual_seed(2))
    few, many = (find(samples, candidates).distance for candidates in (1, 6))
    assert (many <= few + 1e-9).all()


def test_a_sample_that_is_not_finite_has_no_distance():
    broken = ANCHORS[:1].clone()
    broken[0, 0] = torch.nan
    assert np.isnan(find(broken, candidates=2).distance).all()


def test_aligning_a_permuted_network_gives_it_back():
    order = draw_permutations(LAYOUT, 6, torch.Generator().manual_seed(1))
    shuffled = permute_weights(LAYOUT, ANCHORS, order)
    assert torch.equal(align_to(LAYOUT, shuffled[:1], ANCHORS[0]), ANCHORS[:1])


def test_spread_counts_only_pairs_that_are_told_apart():
    weights = torch.zeros(3, LAYOUT.num_weights)
    weights[2, 0] = 5
    member = np.array(["a", "a", "b"])
    assert measure_spread(place(weights), member[:, None] != member[None]) == 5
    assert np.isnan(measure_spread(place(weights), np.zeros((3, 3), bool)))


def test_error_overlap_is_intersection_over_union():
    first = np.array([[True, True, False, False], [False] * 4, [True, False, False, False]])
    second = np.array([[True, False, True, False], [False] * 4, [False, False, False, True]])
    assert compare_errors(first, second).tolist() == [1 / 3, 1, 0]
