import math
from typing import Literal

import pytest
import torch
from torch.nn import functional as F

from tests.weightspace.hyperrep.small_model import make_config
from weightspace.hyperrep.config import LossConfig, Normalization
from weightspace.hyperrep.kinds import BIAS, PADDING, WEIGHT
from weightspace.hyperrep.loss import (
    LEAST_POWER,
    measure_contrast,
    measure_nt_xent,
    measure_reconstruction,
    measure_spreads,
)
from weightspace.networks import Architecture, build_layout

NORMALIZATIONS = ("none", "batch", "window", "layer", "tensor", "token")
ALONE = tuple(name for name in NORMALIZATIONS if name != "batch")
# Two networks of three tokens: two in layer 0, one in layer 1; False is padding.
MASK = torch.tensor([[True, True], [True, False], [True, True]])
KINDS = torch.where(MASK, torch.tensor([[WEIGHT, BIAS]]), PADDING)
POSITIONS = torch.tensor([[0, 0, 0], [1, 0, 1], [2, 1, 0]])
TARGET = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [0.5, 0.5]], [[2.0, 2.0], [4.0, 0.0], [1.0, 3.0]]])
TINY = {
    "name": "tiny",
    "channels": 1,
    "height": 2,
    "width": 2,
    "blocks": [{"kind": "linear", "features": 3}, {"kind": "linear", "features": 2, "activate": False}],
}
OUTPUT = torch.tensor([[[1.0, 1.0], [5.0, 9.0], [0.5, 1.5]], [[2.0, 5.0], [4.0, 9.0], [3.0, 3.0]]])


def make_rules(normalization: Normalization, balance: Literal["numbers", "groups"] = "numbers") -> LossConfig:
    return make_config(loss={"normalization": normalization, "balance": balance}).loss


def draw_views(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.randn(2, num, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return first, second


def contrast_by_loops(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """NT-Xent as SimCLR's equation 1 writes it."""
    views = [*first, *second]
    num = len(first)

    def similarity(i: int, j: int) -> float:
        return math.exp(float(views[i] @ views[j] / (views[i].norm() * views[j].norm())) / temperature)

    total = 0.0
    for i in range(2 * num):
        others = sum(similarity(i, k) for k in range(2 * num) if k != i)
        total -= math.log(similarity(i, (i + num) % (2 * num)) / others)
    return total / (2 * num)


@pytest.mark.parametrize("num", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_is_nt_xent(num, temperature):
    first, second = draw_views(num)
    assert float(measure_nt_xent(first, second, temperature)) == pytest.approx(
        contrast_by_loops(first, second, temperature), abs=1e-9
    )


def test_contrast_is_the_cross_entropy_over_the_other_views():
    first, second = draw_views(6)
    views = F.normalize(torch.cat([first, second]), dim=1)
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    logits = (views @ views.T / 0.3)[off_diagonal].reshape(12, 11)
    # Without its own entry, a row's later entries move one place to the left.
    labels = torch.cat([torch.arange(6) + 5, torch.arange(6)])
    torch.testing.assert_close(measure_nt_xent(first, second, 0.3), F.cross_entropy(logits, labels))


def test_contrast_is_lower_when_views_agree():
    first, second = draw_views(6)
    assert measure_nt_xent(first, first, 0.1) < measure_nt_xent(first, second, 0.1)


def test_contrast_does_not_depend_on_length():
    first, second = draw_views(4)
    torch.testing.assert_close(measure_nt_xent(first * 7, second, 0.1), measure_nt_xent(first, second, 0.1))


def test_layer_normalization_follows_its_formula():
    # Mean squares: network 1 layer 0 (1+4+9)/3, layer 1 0.25; network 2 layer 0 (4+4+16)/3 = 8, layer 1 5.
    wanted = ((0 + 1 + 4) / (14 / 3) + (0 + 1) / 0.25 + (0 + 9 + 0) / 8 + (4 + 0) / 5) / 10
    assert float(measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules("layer"))) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("normalization", "wanted"),
    [
        ("none", (5 + 1 + 9 + 4) / 10),
        ("batch", (5 + 1 + 9 + 4) / 10 / ((14 + 0.5 + 24 + 10) / 10)),
        ("window", ((5 + 1) / (14.5 / 5) + (9 + 4) / (34 / 5)) / 10),
        ("token", (1 / 2.5 + 4 / 9 + 1 / 0.25 + 9 / 4 + 0 + 4 / 5) / 10),
    ],
)
def test_other_normalizations_follow_their_formulas(normalization, wanted):
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules(normalization))
    assert float(loss) == pytest.approx(wanted)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padding_has_no_part_in_the_loss(normalization):
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules(normalization))
    output, target = OUTPUT.masked_fill(~MASK, 1e3), TARGET.masked_fill(~MASK, -7.0)
    assert torch.equal(measure_reconstruction(output, target, KINDS, POSITIONS, make_rules(normalization)), loss)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padding_has_no_gradient(normalization):
    output = OUTPUT.clone().requires_grad_()
    measure_reconstruction(output, TARGET, KINDS, POSITIONS, make_rules(normalization)).backward()
    assert output.grad is not None
    assert (output.grad[:, ~MASK] == 0).all()
    assert (output.grad[:, MASK] != 0).any()


@pytest.mark.parametrize("normalization", NORMALIZATIONS[1:])
def test_normalized_loss_does_not_depend_on_scale(normalization):
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules(normalization))
    scaled = measure_reconstruction(100 * OUTPUT, 100 * TARGET, KINDS, POSITIONS, make_rules(normalization))
    torch.testing.assert_close(scaled, loss)


@pytest.mark.parametrize("normalization", NORMALIZATIONS[1:])
def test_loss_of_predicting_zero_is_one(normalization):
    loss = measure_reconstruction(torch.zeros_like(TARGET), TARGET, KINDS, POSITIONS, make_rules(normalization))
    assert float(loss) == pytest.approx(1)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_all_zero_target_gives_a_finite_loss(normalization):
    loss = measure_reconstruction(OUTPUT, torch.zeros_like(TARGET), KINDS, POSITIONS, make_rules(normalization))
    assert loss.isfinite()
    assert float(loss) <= float(OUTPUT.square().max()) / LEAST_POWER


def test_a_network_has_its_own_kinds():
    kinds = torch.stack([KINDS, KINDS])
    kinds[1, 2] = PADDING
    loss = measure_reconstruction(OUTPUT, TARGET, kinds, POSITIONS.expand(2, -1, -1), make_rules("layer"))
    first, second = ((0 + 1 + 4) / (14 / 3) + (0 + 1) / 0.25) / 5, (0 + 9 + 0) / 8 / 3
    assert float(loss) == pytest.approx((first + second) / 2)


def test_groups_count_the_same_where_asked():
    # Per network the layers, each by its own mean error over its own mean square.
    first = (5 / 3 / (14 / 3) + (0 + 1) / 2 / 0.25) / 2
    second = ((0 + 9 + 0) / 3 / 8 + (4 + 0) / 2 / 5) / 2
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules("layer", "groups"))
    assert float(loss) == pytest.approx((first + second) / 2)


def test_one_bias_counts_as_much_as_all_weights_of_its_layer():
    rules = make_rules("tensor", "groups")
    for kind in (WEIGHT, BIAS):
        output = TARGET.clone()
        output[:, (kind == KINDS) & (POSITIONS[:, 1:2] == 0)] = 0.0  # says nothing of one of the four tensors
        loss = measure_reconstruction(output, TARGET, KINDS, POSITIONS, rules)
        assert float(loss) == pytest.approx(1 / 4)


@pytest.mark.parametrize("normalization", ALONE)
@pytest.mark.parametrize("balance", ["numbers", "groups"])
def test_a_networks_loss_does_not_depend_on_the_others(normalization, balance):
    rules = make_rules(normalization, balance)
    both = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, rules)
    alone = [measure_reconstruction(OUTPUT[i : i + 1], TARGET[i : i + 1], KINDS, POSITIONS, rules) for i in range(2)]
    torch.testing.assert_close(both, torch.stack(alone).mean())


def test_spread_is_that_of_all_numbers_of_a_layer():
    layout = build_layout(Architecture.model_validate(TINY))
    weights = (
        torch.randn(7, layout.num_weights, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 8)[:, None]
    )
    weights[:, layout.layer_slice(1)] = 5.0
    spreads = measure_spreads(layout, weights)
    first = weights[:, layout.layer_slice(0)]
    wanted = ((first - first.mean()).square().sum() / (first.numel() - 1)).sqrt()
    assert spreads.tolist() == pytest.approx([float(wanted), 1e-4])


def test_spread_normalization_is_the_published_formula():
    # 1 / (M N) times the sum over networks and layers of the squared error over the layer's variance; N = 5 numbers.
    spreads = torch.tensor([2.0, 0.5])
    wanted = ((0 + 1 + 4) / 4 + 1 / 0.25 + 9 / 4 + 4 / 0.25) / (2 * 5)
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules("spread"), spreads)
    assert float(loss) == pytest.approx(wanted)


def test_spread_normalization_by_layers_is_layer_mean():
    # The 2022 code adds up the layers' means over the layer's numbers, 3 and 2; here over the number of layers.
    spreads = torch.tensor([2.0, 0.5])
    wanted = ((0 + 1 + 4) / 4 / 3 + 1 / 0.25 / 2 + 9 / 4 / 3 + 4 / 0.25 / 2) / 2 / 2
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules("spread", "groups"), spreads)
    assert float(loss) == pytest.approx(wanted)


def test_spread_of_small_weights_has_no_floor_of_the_others():
    spreads = torch.tensor([1e-3, 1e-3])
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, make_rules("spread"), spreads)
    assert float(loss) == pytest.approx((5 + 1 + 9 + 4) / 10 / 1e-6)


def test_counted_padding_is_the_mean_over_all_entries():
    rules = make_config(loss={"normalization": "none", "padding": "counted"}).loss
    loss = measure_reconstruction(OUTPUT, TARGET, KINDS, POSITIONS, rules)
    masked = torch.where(MASK, OUTPUT, 0.0)
    torch.testing.assert_close(loss, F.mse_loss(masked, TARGET))


def test_positive_contrast_is_least_where_views_agree():
    first, second = draw_views(6)
    rules = make_config(loss={"contrast": "positive"}).loss
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(first, second, strict=True)]
    assert float(measure_contrast(first, second, rules)) == pytest.approx(1 - sum(cosines) / 6)
    assert float(measure_contrast(first, 3 * first, rules)) == pytest.approx(0, abs=1e-9)


def test_released_contrast_is_least_at_a_right_angle():
    rules = make_config(loss={"contrast": "released", "temperature": 0.1}).loss
    first, second = draw_views(6)
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(first, second, strict=True)]
    by_hand = sum((cosine / 0.1) ** 2 for cosine in cosines) / 6 / 12
    assert float(measure_contrast(first, second, rules)) == pytest.approx(by_hand)
    across = second - (second * first).sum(1, keepdim=True) / first.square().sum(1, keepdim=True) * first
    assert float(measure_contrast(first, across, rules)) == pytest.approx(0, abs=1e-9)
    assert float(measure_contrast(first, first, rules)) == pytest.approx(100 / 12)


def test_contrast_of_a_network_with_itself_alone_is_nothing():
    first, second = draw_views(1)
    assert float(measure_contrast(first, second, make_config().loss)) == pytest.approx(0, abs=1e-9)
