import pytest
import torch

from tests.weightspace.twins.small_twins import LAYOUT, draw_start
from weightspace.twins.pruning import choose_kept, keep_largest


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.785, 0.99])
def test_exactly_the_smallest_of_a_network_are_dropped(sparsity):
    weights = draw_start()
    kept = choose_kept(LAYOUT, weights, sparsity, "network")
    assert ((~kept).sum(1) == round(sparsity * LAYOUT.num_weights)).all()
    if sparsity:
        largest_dropped = weights.abs().masked_fill(kept, 0).amax(1)
        smallest_kept = weights.abs().masked_fill(~kept, torch.inf).amin(1)
        assert (largest_dropped <= smallest_kept).all()


@pytest.mark.parametrize("sparsity", [0.3, 0.785])
def test_each_layer_loses_its_share(sparsity):
    dropped = ~choose_kept(LAYOUT, draw_start(), sparsity, "layer")
    for layer in range(LAYOUT.num_layers):
        part = dropped[:, LAYOUT.layer_slice(layer)]
        assert (part.sum(1) == round(sparsity * part.shape[1])).all()


def test_of_equal_numbers_as_many_as_asked_for_are_dropped():
    assert keep_largest(torch.zeros(1, 5), 2).tolist() == [[False, False, True, True, True]]


def test_each_member_may_lose_another_number():
    kept = keep_largest(draw_start(3), torch.tensor([0, 7, 20]))
    assert (~kept).sum(1).tolist() == [0, 7, 20]
