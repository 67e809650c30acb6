import math

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


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("batch_size", {"kind": "fixed", "value": 10.5}, "got 10.5, wanted a whole number from 1"),
        ("batch_size", {"kind": "fixed", "value": True}, "got True, wanted a whole number from 1"),
        ("batch_size", {"kind": "fixed", "value": math.inf}, "got inf, wanted a whole number from 1"),
        ("batch_size", {"kind": "uniform", "low": 8, "high": 64}, "got uniform, wanted fixed or choice"),
        ("seed", {"kind": "choice", "values": [1.2, 1.7]}, r"got 1.2, wanted a whole number from 0 to 2\*\*53"),
        ("seed", {"kind": "fixed", "value": 2**60}, r"got 1.15\d+e\+18, wanted a whole number"),
        ("train_fraction", {"kind": "fixed", "value": 0}, "got 0.0, wanted a number above 0, at most 1"),
        ("train_fraction", {"kind": "uniform", "low": 0, "high": 1}, "got 0.0, wanted a number above 0"),
        (
            "dropout",
            {"kind": "uniform", "low": 0.5, "high": 0.1},
            "got low 0.5 above high 0.1, wanted low at most high",
        ),
        ("dropout", {"kind": "uniform", "low": False, "high": 0.1}, "got False, wanted a number from 0 to below 1"),
        ("lr", {"kind": "log_uniform", "low": 1e-2, "high": 1e-4}, "got low 0.01 above high 0.0001"),
        ("lr", {"kind": "fixed", "value": math.inf}, "got inf, wanted a finite number from 0"),
        ("weight_decay", {"kind": "fixed", "value": math.nan}, "got nan, wanted a finite number from 0"),
        ("activation", {"kind": "fixed", "value": True}, "got True, wanted one of tanh"),
    ],
)
def test_a_value_that_would_be_bent_is_refused(name, factor, message):
    with pytest.raises(BadInput, match=f"members.factors.{name}: {message}"):
        draw(**{name: factor})


@pytest.mark.parametrize(
    ("seeds", "changes", "message"),
    [
        ([-1], {}, r"members.seeds: got -1, wanted a whole number from 0"),
        ([1, 1], {}, r"members.seeds: got 1 twice in a grid, wanted each value once"),
        ([1], {"lr": {"kind": "choice", "values": [1e-3, 1e-3]}}, r"members.factors.lr: got 0.001 twice in a grid"),
        ([1], {"init": {"kind": "choice", "values": ["normal"] * 2}}, r"members.factors.init: got 'normal' twice"),
        (
            {"kind": "drawn", "count": 2, "below": 1, "seed": 0},
            {},
            "members: got two with seed 0 and all other factors",
        ),
    ],
)
def test_a_grid_in_which_two_members_would_be_one_is_refused(seeds, changes, message):
    with pytest.raises(BadInput, match=message):
        draw_members(Grid(kind="grid", seeds=seeds, max_members=99, factors={**DISCRETE, **changes}))


def test_a_draw_in_which_two_members_would_be_one_is_refused():
    same = {name: {"kind": "fixed", "value": factor.get("value", 0.1)} for name, factor in DISCRETE.items()}
    same |= {"activation": {"kind": "fixed", "value": "tanh"}, "init": {"kind": "fixed", "value": "uniform"}}
    assert len(draw(5, **same)) == 5
    with pytest.raises(BadInput, match="members: got two with seed 7 and all other factors alike"):
        draw(5, **same, seed={"kind": "fixed", "value": 7})


def test_a_value_twice_makes_it_more_likely_in_a_draw():
    relu = draw(activation={"kind": "choice", "values": ["relu", "relu", "tanh"]})["activation"] == "relu"
    assert relu.mean() == pytest.approx(2 / 3, abs=0.15)


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
