from weightspace import schema
from weightspace.factors import FACTORS, NUMBER_FACTORS, WORD_FACTORS
from weightspace.report.labels import TARGETS
from weightspace.zoo.members import RANGES, WORDS


def test_a_factor_is_a_word_or_a_number_and_the_seed_is_neither():
    assert sorted((*WORD_FACTORS, *NUMBER_FACTORS, "seed")) == sorted(FACTORS)


def test_the_order_that_draws_depend_on_is_as_ever():
    assert FACTORS[:4] == ("seed", "activation", "init", "optimizer")
    assert FACTORS[4:9] == ("lr", "weight_decay", "dropout", "batch_size", "train_fraction")
    assert FACTORS[9:] == ("schedule", "label_noise", "augmentation")


def test_every_factor_has_values_that_a_zoo_may_say():
    assert set(WORDS) == set(WORD_FACTORS)
    assert set(RANGES) == {"seed", *NUMBER_FACTORS}


def test_a_table_knows_what_every_factor_holds():
    assert {name for name, kind in schema.FACTORS.items() if kind is schema.TEXT} == set(WORD_FACTORS)
    assert tuple(schema.FACTORS) == FACTORS


def test_a_report_has_a_name_for_every_factor():
    assert set(FACTORS) <= set(TARGETS)
