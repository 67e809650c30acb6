import numpy as np
import pytest
import torch
from torch import nn

from weightspace.config import BadInput
from weightspace.networks import build_cnn_s, build_layout
from weightspace.zoo.config import Draw, Grid
from weightspace.zoo.members import draw_members, initialize_members

FACTORS = {
    "activation": {"kind": "choice", "values": ["tanh", "relu"]},
    "init": {"kind": "choice", "values": ["uniform", "kaiming_normal"]},
    "optimizer": {"kind": "fixed", "value": "adam"},
    "lr": {"kind": "log_uniform", "low": 1e-4, "high": 1e-2},
    "weight_decay": {"kind": "fixed", "value": 0},
    "dropout": {"kind": "uniform", "low": 0, "high": 0.5},
    "batch_size": {"kind": "fixed", "value": 32},
    "train_fraction": {"kind": "fixed", "value": 1},
}
DISCRETE = {**FACTORS, "lr": {"kind": "choice", "values": [1e-3, 1e-4]}, "dropout": {"kind": "fixed", "value": 0}}


def draw(count=100, **changes):
    return draw_members(Draw(kind="draw", count=count, seed=3, factors={**FACTORS, **changes}))


def test_first_members_do_not_depend_on_how_many_follow():
    assert draw(20).equals(draw(100).iloc[:20])


def test_every_member_has_a_seed_of_its_own():
    assert draw()["seed"].is_unique


def test_log_uniform_fills_its_range():
    logs = np.log10(draw(2000)["lr"])
    assert logs.min() < -3.95
    assert logs.max() > -2.05
    assert logs.mean() == pytest.approx(-3, abs=0.05)


def test_factors_are_drawn_independently():
    table = draw(2000)
    assert abs(np.corrcoef(np.log(table["lr"]), table["dropout"])[0, 1]) < 0.07


def test_grid_has_every_combination_with_every_seed():
    table = draw_members(Grid(kind="grid", seeds=[1, 2, 3], max_members=24, factors=DISCRETE))
    assert len(table) == 2 * 2 * 2 * 3
    assert not table.drop(columns="member").duplicated().any()


def test_grid_larger_than_its_bound_is_refused_with_the_count():
    with pytest.raises(BadInput, match=r"24 members.*max_members = 23"):
        draw_members(Grid(kind="grid", seeds=[1, 2, 3], max_members=23, factors=DISCRETE))


def test_grid_refuses_a_continuous_factor():
    with pytest.raises(BadInput, match="lr: got log_uniform"):
        draw_members(Grid(kind="grid", seeds=[1], max_members=9, factors=FACTORS))


@pytest.mark.parametrize(
    ("name", "value"), [("activation", "tahn"), ("lr", -1.0), ("dropout", 1.0), ("optimizer", "lamb"), ("lr", "fast")]
)
def test_wrong_value_is_named(name, value):
    with pytest.raises(BadInput, match=f"factors.{name}: got {value!r}"):
        draw(**{name: {"kind": "fixed", "value": value}})


def test_missing_factor_is_named():
    factors = {name: value for name, value in FACTORS.items() if name != "dropout"}
    with pytest.raises(BadInput, match="dropout missing"):
        draw_members(Draw(kind="draw", count=3, seed=1, factors=factors))


@pytest.mark.parametrize(
    ("init", "fill"),
    [
        ("uniform", nn.init.uniform_),
        ("normal", nn.init.normal_),
        ("kaiming_uniform", nn.init.kaiming_uniform_),
        ("kaiming_normal", nn.init.kaiming_normal_),
        ("xavier_uniform", nn.init.xavier_uniform_),
        ("xavier_normal", nn.init.xavier_normal_),
    ],
)
def test_initial_weights_have_torchs_distribution(init, fill):
    architecture = build_cnn_s()
    table = draw(200, init={"kind": "fixed", "value": init})
    tensors = build_layout(architecture).split(initialize_members(architecture, table))
    for name in ("conv2.weight", "fc1.weight"):
        expected = fill(
            torch.empty(1, *tensors[name].shape[1:]).expand(200, *tensors[name].shape[1:]).clone()[0].clone()
        )
        many = torch.stack([fill(torch.empty_like(expected)) for _ in range(200)])
        torch.testing.assert_close(tensors[name].mean(), many.mean(), atol=0.02, rtol=0)
        torch.testing.assert_close(tensors[name].std(), many.std(), atol=0.01, rtol=0.02)
        torch.testing.assert_close(tensors[name].max(), many.max(), atol=0.6 if "normal" in init else 0.01, rtol=0.05)


def test_biases_start_at_a_hundredth():
    architecture = build_cnn_s()
    tensors = build_layout(architecture).split(initialize_members(architecture, draw(3)))
    assert (tensors["conv1.bias"] == 0.01).all()


def test_initial_weights_depend_on_the_seed_alone():
    architecture, table = build_cnn_s(), draw(5)
    assert torch.equal(initialize_members(architecture, table)[3:4], initialize_members(architecture, table.iloc[3:4]))


def test_a_factor_that_a_zoo_may_leave_out_has_a_column_only_if_said():
    assert "schedule" not in draw(3)
    assert set(draw(30, schedule={"kind": "choice", "values": ["cosine", "one_cycle"]})["schedule"]) == {
        "cosine",
        "one_cycle",
    }
