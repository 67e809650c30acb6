"""Learning from two layouts and zoos at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, behave, make_config, make_data, one_latent
from tests.weightspace.hyperrep.two_layouts import build_mixed, make_both, make_mixed_config
from weightspace import record
from weightspace.config import BadInput
from weightspace.hyperrep import train as train_module
from weightspace.hyperrep.batches import seed_stream
from weightspace.hyperrep.hyperrep import Hyperrep, choose_hyperrep, load_hyperreps, save_hyperreps
from weightspace.hyperrep.kinds import PADDING
from weightspace.hyperrep.mixture import STREAM_ZOO, choose_part, draw_step, name_zoos, share_networks, weigh_zoos
from weightspace.hyperrep.train import prepare_run, train_hyperrep

UNIFORM = {"sampling": {"kind": "uniform"}}


def sample_by(**weights):
    return {"training": {"sampling": {"kind": "weights", "weights": weights}}}


@pytest.fixture(scope="module")
def both():
    return make_both()


@pytest.fixture(scope="module")
def mixed():
    return build_mixed()


def mark_zoos(data):
    """The same data as of two zoos, of which the second has every third member."""
    table = data.checkpoints.table
    second = table["member"].str.removeprefix("m").astype(int) % 3 == 0
    marked = table.assign(zoo=np.where(second, "q", "p"))
    return replace(data, checkpoints=replace(data.checkpoints, table=marked))


def count_layouts(run, steps=400):
    shares = [part.share for part in run.parts]
    drawn = [choose_part(shares, run.config.training.seed, step) for step in range(steps)]
    assert all(int(draw_step(run.parts, run.config.training, step).layout) == drawn[step] for step in range(8))
    return np.bincount(drawn, minlength=2) / steps


def test_layouts_are_drawn_as_often_as_they_have_members(both):
    run = prepare_run(both, make_mixed_config(), CPU)
    members = np.array([part.pool.num_members for part in run.parts])
    assert count_layouts(run) == pytest.approx(members / members.sum(), abs=0.1)


@pytest.mark.parametrize(("changes", "share"), [({"training": UNIFORM}, 0.5), (sample_by(a=1, b=9), 0.1)])
def test_layouts_are_drawn_as_often_as_their_zoos_weigh(both, changes, share):
    run = prepare_run(both, make_mixed_config(**changes), CPU)
    assert count_layouts(run)[0] == pytest.approx(share, abs=0.1)


def test_a_zoo_of_weight_0_is_looked_at_only(both):
    run = prepare_run(both, make_mixed_config(**sample_by(a=1, b=0)), CPU)
    assert count_layouts(run, 30).tolist() == [1, 0]
    assert set(run.val_batches) == {"a", "b"}
    assert run.val_shares == {"a": 1, "b": 0}


def test_zoos_of_one_layout_are_drawn_network_by_network():
    run = prepare_run(mark_zoos(make_data()), make_config(**sample_by(p=1, q=3)), CPU)
    shares, rules = run.parts[0].shares, run.config.training
    seeds = [seed_stream(rules.seed, STREAM_ZOO, step) for step in range(60)]
    drawn = [share_networks(shares, rules.num_networks, seed) for seed in seeds]
    assert np.mean([counts["q"] for counts in drawn]) / rules.num_networks == pytest.approx(0.75, abs=0.06)
    assert len({counts["q"] for counts in drawn}) > 1
    assert len(draw_step(run.parts, rules, 0).activation) == rules.num_networks


def test_a_zoo_that_weighs_nothing_has_no_network_in_a_step_of_its_layout():
    run = prepare_run(mark_zoos(make_data()), make_config(views={"permute": "none"}, **sample_by(p=0, q=1)), CPU)
    pool, others = run.pool, run.pool.find_networks(run.pool.zoos["p"])
    whole = replace(run.parts[0], batching=replace(run.batching, window=run.batching.tokenizer.num_tokens))
    targets = run.batching.tokenizer.detokenize(draw_step([whole], run.config.training, 0).targets)
    assert not any((target == other).all() for target in targets for other in pool.take(others))


def test_proportional_draws_of_one_layout_do_not_depend_on_zoos():
    plain, marked = (prepare_run(data, make_config(), CPU) for data in (make_data(), mark_zoos(make_data())))
    one, other = (draw_step(run.parts, run.config.training, 3).inputs for run in (plain, marked))
    assert torch.equal(one, other)


def test_names_of_zoos_tell_layouts_apart():
    assert name_zoos({"cnn": ["a", "b"], "mlp": ["b"], "vit": [""]}) == {
        "cnn": {"a": "a", "b": "b.cnn"},
        "mlp": {"b": "b.mlp"},
        "vit": {"": "vit"},
    }


def test_weights_of_other_zoos_are_refused(both):
    with pytest.raises(BadInput, match=r"training.sampling.weights: got a, c, wanted one for each of a, b"):
        prepare_run(both, make_mixed_config(**sample_by(a=1, c=1)), CPU)
    with pytest.raises(ValueError, match="weights are all 0"):
        make_mixed_config(**sample_by(a=0, b=0))


def test_shares_add_up_to_1():
    shares = weigh_zoos(make_config().training.sampling, {"a": 3, "b": 9})
    assert shares == {"a": 0.25, "b": 0.75}


def test_validation_weighs_zoos_as_training_draws_them(both):
    history = train_hyperrep(both, make_mixed_config(**sample_by(a=3, b=1)), None, CPU).history
    wanted = 0.75 * history["val_loss_a"] + 0.25 * history["val_loss_b"]
    np.testing.assert_allclose(history["val_loss"], wanted, rtol=1e-5)


@pytest.mark.parametrize("step", [2, 7])
def test_resumed_training_of_two_layouts_equals_uninterrupted(both, tmp_path, monkeypatch, step):
    config = make_mixed_config(training=UNIFORM, model={"dropout": 0.2})
    whole, take_step = train_hyperrep(both, config, None, CPU), train_module.take_step

    def take_or_die(run):
        if run.progress.step == step:
            raise KeyboardInterrupt
        return take_step(run)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "take_step", take_or_die)
        with pytest.raises(KeyboardInterrupt):
            train_hyperrep(both, config, tmp_path, CPU)
    resumed = train_hyperrep(both, config, tmp_path, CPU)
    assert resumed.history.equals(whole.history)
    for kept in ("last_model", "untrained_model"):
        first, second = (getattr(one, kept).state_dict() for one in (whole, resumed))
        assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("changes", [{}, {"window": 9}, {"loss": {"normalization": "spread"}}], ids=str)
def test_padding_of_either_layout_is_without_effect(both, changes):
    run = prepare_run(both, make_mixed_config(**changes), CPU)
    for batches in run.val_batches.values():
        batch = batches[0]
        padding = (batch.kinds == PADDING).expand_as(batch.inputs)
        assert padding.any()
        noise = torch.where(padding, 7.0, 0.0)
        dirty = replace(batch, inputs=batch.inputs + noise, targets=batch.targets + noise)
        for name, clean in run.learner(batch, 0).items():
            torch.testing.assert_close(run.learner(dirty, 0)[name], clean)


def test_a_network_of_one_layout_does_not_depend_on_the_other(both, mixed, tmp_path):
    save_hyperreps(tmp_path, mixed)
    read = load_hyperreps(tmp_path, CPU)
    assert list(read) == ["cnn", "mlp"]
    for name, data in both.items():
        weights = torch.from_numpy(data.checkpoints.weights[:5])
        latents = read[name].encode(weights, halo=1)
        assert latents.shape[1] == read[name].tokenizer.num_tokens
        assert torch.equal(latents, mixed[name].encode(weights, halo=1))
        torch.testing.assert_close(read[name].encode(weights[2:3], halo=1), latents[2:3], atol=1e-5, rtol=1e-5)


def test_networks_shorter_than_the_window_are_seen_whole(both):
    window = 12
    mixed = build_mixed(window=window)
    assert mixed["mlp"].tokenizer.num_tokens < window < mixed["cnn"].tokenizer.num_tokens
    weights = torch.from_numpy(both["mlp"].checkpoints.weights[:2])
    assert torch.equal(mixed["mlp"].encode(weights, halo=0), mixed["mlp"].encode(weights, halo=3))


def test_a_window_longer_than_every_network_is_refused(both):
    with pytest.raises(BadInput, match="window: got 10000 tokens"):
        prepare_run(both, make_mixed_config(window=10000), CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (behave(), "loss.behaviour: got 'softmax' with networks of several layouts, cnn, mlp; wanted kind none"),
        (one_latent("flatten", "repeat"), "model.latent.compression: got 'flatten'"),
        (one_latent("token", "linear"), "model.latent.expansion: got 'linear'"),
    ],
)
def test_what_needs_one_layout_is_refused(both, changes, said):
    with pytest.raises(BadInput, match=said):
        prepare_run(both, make_mixed_config(**changes), CPU)


def test_one_latent_a_network_works_with_both(both):
    trained = train_hyperrep(both, make_mixed_config(**one_latent("token", "repeat")), None, CPU)
    for name, data in both.items():
        weights = torch.from_numpy(data.checkpoints.weights[:2])
        assert trained.hyperreps[name].encode(weights).shape[1] == 1
        assert trained.hyperreps[name].reconstruct(weights).shape == weights.shape


def test_a_layout_that_it_did_not_learn_from_is_refused(both, mixed):
    first, *others = both["mlp"].layout.places
    other = both["mlp"].layout.model_copy(update={"places": (first.model_copy(update={"name": "x.weight"}), *others)})
    with pytest.raises(BadInput, match=r"weights/w: got networks with 35 weights.*one of the layouts.*: cnn .*, mlp "):
        choose_hyperrep(mixed, other, "weights/w")


def test_one_of_several_layouts_is_not_read_as_if_it_were_all(mixed, tmp_path):
    save_hyperreps(tmp_path, mixed)
    with pytest.raises(BadInput, match="learned from networks of several layouts, cnn, mlp"):
        Hyperrep.load(tmp_path, CPU)


def test_a_state_of_other_code_is_refused(both, tmp_path, monkeypatch):
    config = make_config(training={"steps": 2, "validate_every": 2})
    train_hyperrep(both, config, tmp_path, CPU)
    monkeypatch.setattr(record, "digest_code", lambda: "other")
    with pytest.raises(BadInput, match="a training with another configuration, preprocessing or code"):
        train_hyperrep(both, config, tmp_path, CPU)


def test_a_state_of_another_preprocessing_is_refused(both, tmp_path):
    config = make_mixed_config(training={"steps": 3})
    train_hyperrep(both, config, tmp_path, CPU)
    statistics = replace(both["mlp"].statistics, std=2 * both["mlp"].statistics.std)
    other = both | {"mlp": replace(both["mlp"], statistics=statistics)}
    with pytest.raises(
        BadInput, match=r"state.safetensors: is the state of a training with another configuration, pre"
    ):
        train_hyperrep(other, config, tmp_path, CPU)
