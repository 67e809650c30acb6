import pytest

from weightspace.config import BadInput
from weightspace.networks import build_cnn_s
from weightspace.twins.config import Variational
from weightspace.twins.presets import build_pruned, build_twins, list_twinned
from weightspace.twins.variational import VariationalLearner
from weightspace.zoo.config import DrawnSeeds, Grid
from weightspace.zoo.members import draw_members
from weightspace.zoo.presets import build_images, build_preset
from weightspace.zoo.train import make_recipe


def count_members(zoo):
    """Count the members of a grid without drawing them."""
    members = build_preset(zoo).members
    assert isinstance(members, Grid)
    count = members.seeds.count if isinstance(members.seeds, DrawnSeeds) else len(members.seeds)
    for factor in members.factors.values():
        count *= len(getattr(factor, "values", [0]))
    return count


def test_published_twins_have_the_published_number_of_models_and_states():
    # Source: README and abstract of arXiv 2209.14764; 3,844,360 states with twins, 2,585,360 without.
    epochs = {zoo: build_twins(zoo).method.epochs for zoo in list_twinned()}
    counts = {zoo: count_members(zoo) for zoo in epochs}
    assert len(counts) == 27
    assert sum(counts.values()) == 50_360
    assert sum(counts[zoo] * epochs[zoo] for zoo in counts) == 1_259_000 == 3_844_360 - 2_585_360


@pytest.mark.parametrize("zoo", list_twinned())
def test_twins_start_from_the_last_epoch_of_their_zoo(zoo):
    twins, preset = build_twins(zoo), build_preset(zoo)
    assert (twins.zoo, twins.images, twins.from_epoch) == (zoo, preset.images, preset.epochs)
    assert isinstance(twins.method, Variational)
    assert (twins.method.log_sigma2, twins.method.threshold) == (-10.0, 3.0)


@pytest.mark.parametrize("zoo", [zoo for zoo in list_twinned() if "_resnet18_" not in zoo])
def test_the_divergence_is_weighted_as_published(zoo):
    twins, preset = build_twins(zoo), build_preset(zoo)
    num_train = int(build_images(preset.images).split.train)
    assert isinstance(twins.method, Variational)
    members = draw_members(preset.members).iloc[:1]
    learner = VariationalLearner(build_cnn_s(), make_recipe(members, num_train), twins.method)
    steps = num_train // 10
    # Source: weight of the divergence in the released NNmoduleARD, beside the mean loss of a batch; the same for all
    # steps of an epoch, which are counted from 0 to 24.
    wanted = [0.01 * epoch / 25 for epoch in range(25)]
    assert [learner.scale_penalty(epoch * steps)[0] for epoch in range(25)] == pytest.approx(wanted)
    assert [learner.scale_penalty(epoch * steps + steps - 1)[0] for epoch in range(25)] == pytest.approx(wanted)
    assert (wanted[1], wanted[5], wanted[12], wanted[24]) == pytest.approx((4e-4, 2e-3, 4.8e-3, 9.6e-3))


def test_pruning_stands_beside_the_twins_of_the_same_checkpoints():
    twins, pruned = build_twins("mnist_seed"), build_pruned("mnist_seed", (0.5, 0.785))
    assert pruned.model_copy(update={"method": twins.method}) == twins


def test_a_zoo_without_twins_is_named():
    with pytest.raises(BadInput, match="got 'mnist_small_cnn', wanted a zoo such as mnist_seed"):
        build_twins("mnist_small_cnn")
