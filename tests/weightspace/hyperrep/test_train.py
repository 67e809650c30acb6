import numpy as np
import pytest
import torch

from tests.weightspace.hyperrep.small_model import CPU, behave, make_config, make_data, one_latent, with_weights
from tests.weightspace.samples.small_study import build_image_set
from weightspace.config import BadInput
from weightspace.hyperrep import mixture
from weightspace.hyperrep import train as train_module
from weightspace.hyperrep.criterion import measure_losses
from weightspace.hyperrep.state import FILE_NAME
from weightspace.hyperrep.train import prepare_run, train_hyperrep, validate
from weightspace.weights.weight_data import write_weight_data
from weightspace.weights.weight_table import open_weight_data


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def whole(data):
    """Training that nothing interrupts."""
    return train_hyperrep(data, make_config(), None, CPU)


def kill_at(monkeypatch, step):
    take_step = train_module.take_step

    def take_or_die(run):
        if run.progress.step == step:
            raise KilledError
        return take_step(run)

    monkeypatch.setattr(train_module, "take_step", take_or_die)


def assert_same(one, other):
    assert one.history.equals(other.history)
    for kept in ("hyperrep", "untrained"):
        first, second = (getattr(trained, kept).model.state_dict() for trained in (one, other))
        assert all(torch.equal(value, second[name]) for name, value in first.items())


# Killed before the first state, between two, right after one.
@pytest.mark.parametrize("step", [2, 7, 9])
def test_resumed_training_equals_uninterrupted(data, whole, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(KilledError):
            train_hyperrep(data, make_config(), tmp_path / "work", CPU)
    assert (tmp_path / "work" / FILE_NAME).exists() == (step > 3)
    assert_same(train_hyperrep(data, make_config(), tmp_path / "work", CPU), whole)


def test_resumed_training_with_behaviour_equals_uninterrupted(data, tmp_path, monkeypatch):
    changes = behave()
    config = make_config(**changes | {"loss": changes["loss"] | {"scale": "first_step"}})
    images = build_image_set()
    whole = train_hyperrep(data, config, None, CPU, images)
    assert {"train_behaviour", "val_behaviour"} < set(whole.history)
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(KilledError):
            train_hyperrep(data, config, tmp_path, CPU, images)
    assert_same(train_hyperrep(data, config, tmp_path, CPU, images), whole)


def test_what_dropout_drops_follows_from_the_step(data, whole, tmp_path, monkeypatch):
    config = make_config(model={"dropout": 0.3})
    dropped = train_hyperrep(data, config, None, CPU)
    assert not dropped.history.equals(whole.history)
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(KilledError):
            train_hyperrep(data, config, tmp_path, CPU)
    torch.manual_seed(77)  # whatever else draws has no part in it
    assert_same(train_hyperrep(data, config, tmp_path, CPU), dropped)


def test_nothing_is_dropped_in_validation(data):
    runs = [prepare_run(data, make_config(model={"dropout": dropout}), CPU) for dropout in (0.0, 0.5)]
    assert torch.equal(*(validate(run) for run in runs))


def test_training_goes_on_from_the_state(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(KilledError):
            train_hyperrep(data, make_config(), tmp_path, CPU)
    taken = []
    take_step = train_module.take_step
    monkeypatch.setattr(train_module, "take_step", lambda run: taken.append(run.progress.step) or take_step(run))
    train_hyperrep(data, make_config(), tmp_path, CPU)
    assert taken == [6, 7, 8, 9, 10, 11]


def test_kill_while_the_state_is_written_leaves_the_old_one(data, whole, tmp_path, monkeypatch):
    write_state = train_module.write_state

    def write_or_die(folder, model, optimizer, progress, note):
        if progress.step == 6:
            (folder / f".{FILE_NAME}").write_bytes(b"half")
            raise KilledError
        write_state(folder, model, optimizer, progress, note)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "write_state", write_or_die)
        with pytest.raises(KilledError):
            train_hyperrep(data, make_config(), tmp_path, CPU)
    assert_same(train_hyperrep(data, make_config(), tmp_path, CPU), whole)


def test_training_from_disk_equals_training_from_memory(data, whole, tmp_path, monkeypatch):
    write_weight_data(tmp_path, data)
    monkeypatch.setattr(mixture, "HOLD_BYTES", 0)
    assert prepare_run(open_weight_data(tmp_path), make_config(), CPU).pool.held is None
    assert_same(train_hyperrep(open_weight_data(tmp_path), make_config(), None, CPU), whole)


def test_seed_decides_the_model(data):
    one, other = (train_hyperrep(data, make_config(training={"steps": 2, "seed": seed}), None, CPU) for seed in (0, 1))
    weights = [trained.hyperrep.model.state_dict()["to_latent.weight"] for trained in (one, other)]
    assert not torch.equal(*weights)


def test_the_untrained_model_is_the_one_before_the_first_step(data, whole):
    before = prepare_run(data, make_config(), CPU).model.state_dict()
    untrained, learned = (one.model.state_dict() for one in (whole.untrained, whole.hyperrep))
    assert all(torch.equal(value, before[name]) for name, value in untrained.items())
    assert not all(torch.equal(value, before[name]) for name, value in learned.items())


@pytest.mark.parametrize("linear_path", ["none", "random"])
def test_training_lowers_validation_loss(data, linear_path):
    config = make_config(
        model={"linear_path": linear_path},
        views={"noise": 0.0, "erase": 0.0},
        training={"steps": 40, "validate_every": 20, "lr": 1e-2},
    )
    before = validate(prepare_run(data, config, CPU))
    history = train_hyperrep(data, config, None, CPU).history
    assert history["val_loss"].iloc[-1] < 0.95 * float(before[0])
    assert history["val_reconstruction"].iloc[-1] < 0.95 * float(before[1])


def test_one_latent_learns_the_members_it_sees(data):
    config = make_config(
        **one_latent("flatten", bottleneck="linear", d_latent=16),
        loss={"normalization": "spread", "contrast": "positive"},
        views={"permute": "none", "noise": 0.0, "erase": 0.0},
        training={"steps": 120, "validate_every": 30, "lr": 5e-3},
    )
    history = train_hyperrep(data, config, None, CPU).history
    assert history["train_reconstruction"].iloc[-1] < 0.8 * history["train_reconstruction"].iloc[0]


def test_the_model_kept_is_the_best_on_validation(data):
    config = make_config(training={"lr": 0.3, "clip": 100.0, "validate_every": 1, "warmup": 0.9})
    trained = train_hyperrep(data, config, None, CPU)
    hyperrep, history = trained.hyperrep, trained.history
    best = history["val_reconstruction"].min()
    assert history["val_reconstruction"].iloc[-1] > best
    run = prepare_run(data, config, CPU)
    run.model.load_state_dict(hyperrep.model.state_dict())
    assert float(validate(run)[1]) == pytest.approx(best)
    run.model.load_state_dict(trained.last_model.state_dict())
    assert float(validate(run)[1]) == pytest.approx(history["val_reconstruction"].iloc[-1])


def test_behaviour_may_say_which_model_is_kept(data, monkeypatch):
    looks, states = iter([3.0, 1.0, 2.0, 4.0]), []

    def look(run, zoos):
        states.append({name: value.clone() for name, value in run.model.state_dict().items()})
        terms = dict.fromkeys(run.criterion.terms, 1.0 / len(states)) | {"behaviour": next(looks)}
        return torch.tensor([terms[term] for term in run.criterion.terms])

    monkeypatch.setattr(train_module, "weigh_terms", look)
    rules = {"keep_best": "behaviour", "validate_every": 1, "steps": 4}
    kept = train_hyperrep(data, make_config(**behave(), training=rules), None, CPU, build_image_set()).hyperrep
    found = {
        name: [torch.equal(value, state[name]) for state in states] for name, value in kept.model.named_parameters()
    }
    assert all(same[1] for same in found.values())
    assert not all(same[-1] for same in found.values())


def test_training_brings_networks_nearer_to_what_they_did(data):
    config = make_config(
        **behave(weight=1.0, num_networks=8),
        views={"noise": 0.0, "erase": 0.0},
        training={"steps": 60, "validate_every": 20, "lr": 1e-2, "keep_best": "behaviour"},
    )
    history = train_hyperrep(data, config, None, CPU, build_image_set()).history
    assert history["train_behaviour"].iloc[-1] < 0.8 * history["train_behaviour"].iloc[0]


def test_training_stops_when_validation_does_not_improve(data, monkeypatch):
    monkeypatch.setattr(train_module, "weigh_terms", lambda run, zoos: torch.ones(3))
    config = make_config(training={"validate_every": 1, "patience": 3})
    history = train_hyperrep(data, config, None, CPU).history
    assert history["step"].tolist() == [1, 2, 3, 4]


def test_history_counts_steps_and_epochs(data):
    history = train_hyperrep(data, make_config(training={"steps": 7}), None, CPU).history
    assert history["step"].tolist() == [3, 6, 7]
    assert history["epoch"].tolist() == pytest.approx([3 * 8 / 36, 6 * 8 / 36, 7 * 8 / 36])
    terms = ("loss", "reconstruction", "contrast")
    assert {f"{split}_{term}" for split in ("train", "val") for term in terms} < set(history)


def test_loss_is_the_weighted_sum_of_its_terms(data):
    config = make_config(loss={"contrast_weight": 0.25})
    run = prepare_run(data, config, CPU)
    terms = measure_losses(run.model, next(iter(run.val_batches.values()))[0], run.criterion, None)
    torch.testing.assert_close(terms["loss"], 0.75 * terms["reconstruction"] + 0.25 * terms["contrast"])


def test_test_members_have_no_part_in_training(data, whole):
    weights = torch.from_numpy(data.checkpoints.weights.copy())
    weights[torch.from_numpy(np.flatnonzero(data.checkpoints.table["split"] == "test"))] = 5.0
    assert_same(train_hyperrep(with_weights(data, weights), make_config(), None, CPU), whole)


def test_window_longer_than_the_model_is_refused(data):
    with pytest.raises(BadInput, match=r"window: got 10000 tokens"):
        train_hyperrep(data, make_config(window=10000), None, CPU)


def test_heads_that_do_not_divide_the_width_are_refused(data):
    with pytest.raises(BadInput, match=r"model.num_heads: got 3, wanted a divisor of 16"):
        train_hyperrep(data, make_config(model={"num_heads": 3}), None, CPU)


def test_diverged_training_is_told(data, monkeypatch):
    monkeypatch.setattr(train_module, "take_step", lambda run: torch.full((3,), torch.nan))
    with pytest.raises(BadInput, match="try a smaller lr"):
        train_module.learn(prepare_run(data, make_config(training={"validate_every": 1}), CPU), None)


def test_a_model_that_validation_never_measured_is_refused(data, monkeypatch):
    monkeypatch.setattr(train_module, "weigh_terms", lambda run, zoos: torch.full((3,), torch.nan))
    with pytest.raises(BadInput, match="val_reconstruction was not finite at any of 4 validations"):
        train_hyperrep(data, make_config(), None, CPU)


def test_an_empty_start_of_a_token_sends_back_numbers(data):
    changes = {"linear_path": "principal"}  # latents of erased tokens are 0 before the first step
    history = train_hyperrep(data, make_config(model=changes, training={"steps": 3}), None, CPU).history
    assert np.isfinite(history["train_loss"]).all()
