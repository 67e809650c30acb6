import pytest

from tests.weightspace.hyperrep.small_model import CPU, make_config, make_data
from weightspace.hyperrep import batch_size
from weightspace.hyperrep.batch_size import count_kept
from weightspace.hyperrep.mixture import draw_step
from weightspace.hyperrep.state import FILE_NAME
from weightspace.hyperrep.train import prepare_run, train_hyperrep

AUTO = make_config(training={"batch_size": "auto", "steps": 3})


def measure(num):
    run = prepare_run(make_data(), make_config(training={"batch_size": num}), CPU)
    return count_kept(run.model, draw_step(run.parts, run.config.training, 0), run.criterion)


def settle(config=AUTO, scratch=None):
    return prepare_run(make_data(), config, CPU, scratch=scratch).config.training.batch_size


def test_memory_of_a_step_grows_with_its_networks_by_as_much_each():
    four, eight, sixteen = measure(4), measure(8), measure(16)
    assert sixteen - eight == pytest.approx(2 * (eight - four), rel=0.05)


@pytest.mark.parametrize("wanted", [1, 2, 4, 8])
def test_the_largest_power_of_two_that_fits_is_found(monkeypatch, wanted):
    monkeypatch.setattr(batch_size, "CPU_BYTES", measure(wanted) + 1)
    assert settle() == wanted


def test_no_step_has_more_networks_than_there_are_members(monkeypatch):
    monkeypatch.setattr(batch_size, "CPU_BYTES", 2**40)
    members = prepare_run(make_data(), make_config(), CPU).pool.num_members
    assert settle() <= members < 2 * settle()


def test_each_process_has_as_many():
    assert settle(make_config(training={"batch_size": "auto", "processes": 3})) % 3 == 0


def test_a_resumed_training_keeps_its_number(tmp_path, monkeypatch):
    trained = train_hyperrep(make_data(), AUTO, tmp_path, CPU)
    found = trained.config.training.batch_size
    assert (tmp_path / FILE_NAME).exists()
    monkeypatch.setattr(batch_size, "CPU_BYTES", 0)
    assert settle() == 1 != found
    assert settle(scratch=tmp_path) == found
    again = train_hyperrep(make_data(), AUTO, tmp_path, CPU)
    assert again.history.equals(trained.history)


def test_training_with_the_number_found_is_training_with_that_number():
    trained = train_hyperrep(make_data(), AUTO, None, CPU)
    rules = AUTO.training.model_copy(update={"batch_size": trained.config.training.batch_size})
    plain = train_hyperrep(make_data(), replace_training(rules), None, CPU)
    assert plain.history.equals(trained.history)
    assert plain.config == trained.config


def replace_training(rules):
    return AUTO.model_copy(update={"training": rules})
