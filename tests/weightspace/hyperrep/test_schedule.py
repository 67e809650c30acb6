import pytest
import torch

from tests.weightspace.hyperrep.small_model import make_config
from weightspace.hyperrep.schedule import find_rate


def list_rates(**changes):
    rules = make_config(training={"steps": 100, "lr": 1.0, "warmup": 0.3} | changes).training
    return [find_rate(step, rules) for step in range(101)]


def test_one_cycle_goes_up_and_down():
    rates = list_rates()
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[30] == pytest.approx(1)
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[100] == pytest.approx(1 / 25 / 1e5)


def test_cosine_rises_along_a_line_and_falls_to_zero():
    rates = list_rates(schedule="cosine")
    assert rates[:30] == pytest.approx([(step + 1) / 31 for step in range(30)])
    assert rates[30] == 1
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[100] == 0


def test_cosine_falls_as_torchs_does():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=70)
    for rate in list_rates(schedule="cosine")[30:]:
        assert rate == pytest.approx(oracle.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_without_warmup_the_peak_comes_first(schedule):
    rates = list_rates(schedule=schedule, warmup=0.0)
    assert rates[0] == pytest.approx(1)
    assert rates == sorted(rates, reverse=True)
