import pytest

from weightspace.config import BadInput
from weightspace.twins.config import Variational
from weightspace.twins.presets import build_pruned, build_twins, list_twinned
from weightspace.zoo.config import DrawnSeeds, Grid
from weightspace.zoo.presets import build_preset


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
    assert (twins.method.log_sigma2, twins.method.threshold, twins.method.penalty) == (-10.0, 3.0, 1.0)


def test_pruning_stands_beside_the_twins_of_the_same_checkpoints():
    twins, pruned = build_twins("mnist_seed"), build_pruned("mnist_seed", (0.5, 0.785))
    assert pruned.model_copy(update={"method": twins.method}) == twins


def test_a_zoo_without_twins_is_named():
    with pytest.raises(BadInput, match="got 'mnist_small_cnn', wanted a zoo such as mnist_seed"):
        build_twins("mnist_small_cnn")
