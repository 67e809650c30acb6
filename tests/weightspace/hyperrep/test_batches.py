import numpy as np
import pandas as pd
import pytest
import torch

from tests.weightspace.hyperrep.small_model import make_config, make_data
from weightspace.config import BadInput
from weightspace.hyperrep.batches import (
    ACTIVATION_NAMES,
    Batching,
    draw_batch,
    draw_networks,
    draw_validation,
    gather_pool,
    make_batch,
    seed_stream,
    select_epochs,
    tell_activations,
)
from weightspace.hyperrep.kinds import PADDING, tell_kinds
from weightspace.tokens.tokenizer import build_tokenizer
from weightspace.weights.config import EpochList, EpochRange

ALL_EPOCHS = EpochRange(kind="range", first=0, last=None, every=1)
HELD = 2**30


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def pool(data):
    return gather_pool(data, ALL_EPOCHS, "train", HELD)


def make_batching(data, config):
    tokenizer = build_tokenizer(data.checkpoints.layout, config.tokens)
    return Batching(tokenizer, tell_kinds(tokenizer), 9, config.views)


def cut_batch(pool, window=None, **views):
    config = make_config(views={"permute": "none", "noise": 0.0, "erase": 0.0, "target": "clean"} | views)
    tokenizer = build_tokenizer(make_data(4).checkpoints.layout, config.tokens)
    window = window or tokenizer.num_tokens
    batching = Batching(tokenizer, tell_kinds(tokenizer), window, config.views)
    return make_batch(pool, torch.arange(6), batching, config.views, seed_stream(0, 9)), tokenizer


def test_first_view_is_canonical_and_second_is_permuted(pool):
    batch, tokenizer = cut_batch(pool, permute="second")
    first, second = (tokenizer.detokenize(view) for view in batch.targets.chunk(2))
    assert torch.equal(first, pool.held[:6])
    assert (first != second).any(1).all()
    assert torch.equal(first.sort(1).values, second.sort(1).values)


def test_both_views_are_canonical_without_permutation(pool):
    batch, _ = cut_batch(pool)
    first, second = batch.targets.chunk(2)
    assert torch.equal(first, second)


@pytest.mark.parametrize("views", [{"noise": 0.3}, {"erase": 1.0}], ids=["noise", "erase"])
def test_targets_are_clean(pool, views):
    batch, tokenizer = cut_batch(pool, **views)
    clean, _ = cut_batch(pool)
    assert torch.equal(batch.targets, clean.targets)
    changed = tokenizer.detokenize(batch.inputs) != tokenizer.detokenize(batch.targets)
    assert changed.any(1).all()


def test_views_have_noise_of_their_own(pool):
    first, second = cut_batch(pool, noise=0.3)[0].inputs.chunk(2)
    assert (first != second).any((1, 2)).all()


def test_window_kinds_and_positions_belong_to_its_tokens(pool):
    batch, tokenizer = cut_batch(pool, window=5, permute="second")
    whole = tokenizer.tokenize(pool.held[:6])
    start = int(batch.positions[0, 0])
    assert torch.equal(batch.positions, tokenizer.positions[start : start + 5])
    assert torch.equal(batch.kinds != PADDING, tokenizer.mask[start : start + 5])
    assert torch.equal(batch.targets[:6], whole[:, start : start + 5])


def test_a_step_alone_decides_its_batch(data, pool):
    config = make_config()
    batching = make_batching(data, config)

    def draw(step):
        return draw_batch(pool, batching, config.training, step)

    later = draw(4)
    draw(3)
    assert torch.equal(draw(4).inputs, later.inputs)
    assert not torch.equal(draw(5).inputs, later.inputs)


def test_validation_is_the_same_each_time_and_has_no_noise(data):
    config = make_config()
    batching = make_batching(data, config)
    val_pool = gather_pool(data, ALL_EPOCHS, "val", HELD)
    first, second = (draw_validation(val_pool, batching, config.training) for _ in range(2))
    assert [len(batch.inputs) for batch in first] == [16, 8]  # two views of 12 networks, at most 8 at once
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.inputs, one.targets)


def test_networks_of_a_batch_are_of_different_members(pool):
    rows = draw_networks(pool, pool.num_members, seed_stream(0))
    assert len(pool.member[rows].unique()) == pool.num_members


def test_every_checkpoint_is_drawn(pool):
    rows = torch.cat([draw_networks(pool, 2 * pool.num_members + 1, seed_stream(0, i)) for i in range(40)])
    assert torch.equal(rows.unique(), torch.arange(pool.num_networks))


def test_pool_is_standardised_and_sound(data):
    table = data.checkpoints.table
    sound = table.index[(table["split"] == "train") & ~table["diverged"]]
    pool = gather_pool(data, ALL_EPOCHS, "train", HELD)
    wanted = data.statistics.standardize(data.checkpoints.layout, torch.from_numpy(data.checkpoints.weights))
    assert torch.equal(pool.held, wanted[torch.from_numpy(sound.to_numpy().copy())])


def test_diverged_checkpoints_are_left_out():
    data = make_data(8)
    table = data.checkpoints.table
    row = int(np.flatnonzero(table["split"] == "train")[0])
    table.loc[row, "diverged"] = True
    data.checkpoints.weights[row] = np.nan
    pool = gather_pool(data, ALL_EPOCHS, "train", HELD)
    assert pool.held.isfinite().all()
    assert pool.num_networks == (table["split"] == "train").sum() - 1


@pytest.mark.parametrize(
    ("epochs", "wanted"),
    [
        (EpochRange(kind="range", first=2, last=8, every=3), [2, 5, 8]),
        (EpochRange(kind="range", first=7, last=None, every=1), [7, 8, 9]),
        (EpochList(kind="list", epochs=(0, 9, 40)), [0, 9]),
    ],
)
def test_epochs_are_selected(epochs, wanted):
    assert np.flatnonzero(select_epochs(np.arange(10), epochs)).tolist() == wanted


def test_epochs_that_are_not_there_are_refused(data):
    with pytest.raises(BadInput, match=r"training.epochs: no train checkpoint.*0 to 2"):
        gather_pool(data, EpochList(kind="list", epochs=(77,)), "train", HELD)


def test_both_views_may_be_permuted(pool):
    batch, tokenizer = cut_batch(pool, permute="both")
    first, second = (tokenizer.detokenize(view) for view in batch.targets.chunk(2))
    for view in (first, second):
        assert (view != pool.held[:6]).any(1).all()
        assert torch.equal(view.sort(1).values, pool.held[:6].sort(1).values)
    assert (first != second).any(1).all()


@pytest.mark.parametrize("views", [{"noise": 0.3}, {"erase": 1.0}], ids=["noise", "erase"])
def test_the_target_may_be_what_is_seen(pool, views):
    batch, _ = cut_batch(pool, target="seen", **views)
    clean, _ = cut_batch(pool, **views)
    assert torch.equal(batch.targets, batch.inputs)
    assert torch.equal(batch.inputs, clean.inputs)


def test_a_batch_tells_the_activation_of_its_networks(data, pool):
    batch, _ = cut_batch(pool)
    table = data.checkpoints.table
    train = table[table["split"] == "train"].sort_values("member", kind="stable")
    assert [ACTIVATION_NAMES[code] for code in batch.activation] == train["activation"].tolist()[:6]


def test_activations_that_cannot_be_run_are_told():
    table = pd.DataFrame({"activation": ["relu", "maxout", None, "tanh"]})
    codes = tell_activations(table)
    assert (codes < 0).tolist() == [False, True, True, False]
    assert (tell_activations(table.drop(columns="activation")) == -1).all()
