"""Name the factors: what may vary between the members of a zoo. The only list of them."""

from typing import Literal, get_args

FactorName = Literal[
    "seed",
    "activation",
    "init",
    "optimizer",
    "lr",
    "weight_decay",
    "dropout",
    "batch_size",
    "train_fraction",
    "schedule",
    "label_noise",
    "augmentation",
]
"""In an order that draws depend on: a new one goes to the end."""
WordFactor = Literal["activation", "init", "optimizer", "schedule", "augmentation"]
"""Those whose values are words."""
NumberFactor = Literal["lr", "weight_decay", "dropout", "batch_size", "train_fraction", "label_noise"]
"""Those whose values are numbers that mean more or less of something, as a seed does not."""

FACTORS: tuple[FactorName, ...] = get_args(FactorName)
WORD_FACTORS: tuple[WordFactor, ...] = get_args(WordFactor)
NUMBER_FACTORS: tuple[NumberFactor, ...] = get_args(NumberFactor)
