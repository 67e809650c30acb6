import pytest
import torch

from weightspace.hyperrep.dropout import drop


def test_a_number_is_dropped_or_scaled_up():
    kept = drop(torch.ones(7, 5, 3), 0.25, training=True)
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_one_asked_for(share: float):
    torch.manual_seed(0)
    num = 1_000_001
    dropped = (drop(torch.ones(num), share, training=True) == 0).sum().item()
    spread = (num * share * (1 - share)) ** 0.5
    assert abs(dropped - num * share) < 4 * spread + num * 2**-17


def test_the_mean_stays():
    torch.manual_seed(0)
    assert drop(torch.ones(1_000_000), 0.1, training=True).mean().item() == pytest.approx(1, abs=2e-3)


def test_only_what_was_kept_gets_a_gradient():
    x = torch.ones(1000, requires_grad=True)
    out = drop(x, 0.3, training=True)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_the_same_seed_drops_the_same():
    x = torch.ones(33)
    torch.manual_seed(1)
    first = drop(x, 0.5, training=True)
    torch.manual_seed(1)
    assert torch.equal(first, drop(x, 0.5, training=True))
    assert not torch.equal(first, drop(x, 0.5, training=True))


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_without_a_share_or_out_of_training(share: float, training: bool):
    x = torch.randn(9)
    assert torch.equal(drop(x, share, training), x)
