"""Decide which networks a zoo has, and what weights they start from."""

import itertools
import math
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from weightspace.config import BadInput
from weightspace.layout import Place
from weightspace.networks import ACTIVATIONS, Architecture, build_architecture, build_layout, build_mlp
from weightspace.zoo.config import (
    Choice,
    Draw,
    DrawnSeeds,
    Factor,
    FactorName,
    Fixed,
    Grid,
    LogUniform,
    Mlp,
    Resnet,
    Uniform,
    Value,
)
from weightspace.zoo.training import STREAM_INIT, Augmentation, Optimizer, Schedule, seed_generator

FACTORS: tuple[FactorName, ...] = get_args(FactorName)
INITS = ("uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal")
WORDS = {
    "activation": tuple(ACTIVATIONS),
    "init": INITS,
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "augmentation": get_args(Augmentation),
}
OPTIONAL: tuple[FactorName, ...] = ("schedule", "label_noise", "augmentation")
"""Factors that a zoo may leave out: then its members have a constant rate, true labels and images as they are."""
INTEGERS = ("seed", "batch_size")
RANGES = {
    "seed": (0, math.inf),
    "lr": (0, math.inf),
    "weight_decay": (0, math.inf),
    "dropout": (0, 1),
    "batch_size": (1, math.inf),
    "train_fraction": (0, 1),
    "label_noise": (0, 1),
}
BIAS_START = 0.01
"""Every bias starts here. Source: Model Zoos (arXiv 2209.14764), released generator."""


def choose_architecture(choice: str | Mlp | Resnet, shape: tuple[int, int, int], num_classes: int) -> Architecture:
    """Build the architecture that a zoo names or describes, for images of a shape and some classes.

    Raises:
        BadInput: nothing has that name, or no engine trains it.
    """
    if isinstance(choice, Mlp):
        return build_mlp(shape, choice.widths, num_classes, choice.bias)
    if isinstance(choice, Resnet):
        raise BadInput(f"architecture: got a resnet of depth {choice.depth}, which no engine trains yet")
    return build_architecture(choice, shape, num_classes)


def draw_members(config: Draw | Grid) -> pd.DataFrame:
    """List a zoo's members: one row each, `member` and its factors.

    The first rows of a draw do not depend on how many follow.

    Raises:
        BadInput: a factor is missing or has a value that no engine knows, or a grid grows beyond its bound.
    """
    check_factors(config)
    table = draw_table(config) if isinstance(config, Draw) else expand_grid(config)
    names = [name for name in FACTORS if name in table]
    for name in names:
        table[name] = table[name].astype("int64" if name in INTEGERS else "str" if name in WORDS else "float64")
    table.insert(0, "member", pd.Series([f"m{i:06d}" for i in range(len(table))], dtype="str"))
    return table.loc[:, ["member", *names]]


def check_factors(config: Draw | Grid) -> None:
    """Refuse a missing factor, an unknown word and a number out of range."""
    missing = set(FACTORS) - {"seed", *OPTIONAL} - set(config.factors)
    if missing:
        raise BadInput(f"members.factors: {', '.join(sorted(missing))} missing; every factor must be said")
    for name, factor in config.factors.items():
        if isinstance(config, Grid) and not isinstance(factor, Fixed | Choice):
            raise BadInput(f"members.factors.{name}: got {factor.kind} in a grid, wanted fixed or choice")
        for value in list_bounds(factor):
            check_value(name, value)


def list_bounds(factor: Factor) -> tuple[Value, ...]:
    """Return the values, or the two ends, of a factor."""
    if isinstance(factor, Fixed):
        return (factor.value,)
    return factor.values if isinstance(factor, Choice) else (factor.low, factor.high)


def check_value(name: FactorName, value: Value) -> None:
    """Refuse a value that a factor cannot take."""
    if name in WORDS:
        if value not in WORDS[name]:
            raise BadInput(f"members.factors.{name}: got {value!r}, wanted one of {', '.join(WORDS[name])}")
        return
    low, high = RANGES[name]
    if isinstance(value, str) or not low <= value <= high or (name == "dropout" and value == 1):
        raise BadInput(f"members.factors.{name}: got {value!r}, wanted a number from {low} to {high}")


def draw_table(config: Draw) -> pd.DataFrame:
    """Draw each factor from a generator of its own."""
    columns: dict[str, list[Value]] = {"seed": [config.seed * 1_000_000 + i for i in range(config.count)]}
    for name, factor in config.factors.items():
        generator = seed_generator(config.seed, FACTORS.index(name))
        columns[name] = [place_in_factor(factor, share) for share in generator.random(config.count)]
    return pd.DataFrame(columns)


def place_in_factor(factor: Factor, share: float) -> Value:
    """Return the value that lies at a share (0 to 1) of a factor's probability."""
    match factor:
        case Fixed():
            return factor.value
        case Choice():
            return factor.values[int(share * len(factor.values))]
        case Uniform():
            return factor.low + share * (factor.high - factor.low)
        case LogUniform():
            return factor.low * (factor.high / factor.low) ** share


def expand_grid(config: Grid) -> pd.DataFrame:
    """Combine every value of every factor with every seed."""
    values: dict[str, tuple[Value, ...]] = {name: list_bounds(factor) for name, factor in config.factors.items()}
    seeds = config.seeds
    values.setdefault("seed", tuple(range(seeds.count)) if isinstance(seeds, DrawnSeeds) else seeds)
    count = math.prod(len(options) for options in values.values())
    if count > config.max_members:
        raise BadInput(f"members: the grid has {count} members, wanted at most max_members = {config.max_members}")
    table = pd.DataFrame(itertools.product(*values.values()), columns=pd.Index(values))
    if isinstance(seeds, DrawnSeeds) and "seed" not in config.factors:
        table["seed"] = seed_generator(seeds.seed, FACTORS.index("seed")).integers(0, seeds.below, count)
    return table


def initialize_members(architecture: Architecture, factors: pd.DataFrame) -> Float32[torch.Tensor, "members weights"]:
    """Draw each member's initial weights from its own seed, in float32.

    `uniform` is U(0, 1) and `normal` is N(0, 1), as in the published zoos; the others are torch's with default gain.
    """
    layout = build_layout(architecture)
    rows = zip(factors["seed"], factors["init"], strict=True)
    return torch.from_numpy(np.stack([draw_initial(layout.places, int(seed), str(init)) for seed, init in rows]))


def draw_initial(places: tuple[Place, ...], seed: int, init: str) -> Float32[np.ndarray, " weights"]:
    """Draw one member's weight vector."""
    generator = seed_generator(seed, STREAM_INIT)
    parts = []
    for place in places:
        if place.kind == "bias":
            parts.append(np.full(place.size, BIAS_START))
            continue
        shift, scale = scale_init(init, place.shape)
        unit = generator.standard_normal(place.size) if init.endswith("normal") else generator.random(place.size)
        parts.append(shift + scale * unit)
    return np.concatenate(parts).astype(np.float32)


def scale_init(init: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return shift and scale of unit random numbers (standard normal, or uniform from 0 to 1) for a weight's shape."""
    receptive = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * receptive, shape[0] * receptive
    std = math.sqrt(2 / fan_in) if init.startswith("kaiming") else math.sqrt(2 / (fan_in + fan_out))
    if init in ("uniform", "normal"):
        return 0.0, 1.0
    if init.endswith("normal"):
        return 0.0, std
    return -math.sqrt(3) * std, 2 * math.sqrt(3) * std
