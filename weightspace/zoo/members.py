"""Decide which networks a zoo has, and what weights they start from."""

import itertools
import math
import sys
from collections import Counter
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import nn

from weightspace.config import BadInput
from weightspace.factors import FACTORS, FactorName
from weightspace.layout import Place
from weightspace.networks import ACTIVATIONS, Architecture, build_architecture, build_layout, build_mlp
from weightspace.zoo.config import (
    Choice,
    Draw,
    DrawnSeeds,
    Factor,
    Fixed,
    Grid,
    LogUniform,
    Mlp,
    Module,
    Resnet,
    Uniform,
    Value,
)
from weightspace.zoo.kinds import ModuleNetwork, Network, build_module, lay_out_network
from weightspace.zoo.modules import read_vector
from weightspace.zoo.named_module import NamedModule, describe_named
from weightspace.zoo.residual import ResidualNetwork, describe_residual
from weightspace.zoo.training import STREAM_INIT, Augmentation, Optimizer, Schedule, seed_generator

INITS = ("uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "default")
WORDS = {
    "activation": tuple(ACTIVATIONS),
    "init": INITS,
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "augmentation": get_args(Augmentation),
}
OPTIONAL: tuple[FactorName, ...] = ("schedule", "label_noise", "augmentation")
"""Factors that a zoo may leave out: then its members have a constant rate, true labels and images as they are."""
OWN: tuple[FactorName, ...] = ("activation", "dropout")
"""Factors that a module of the user's decides itself."""
INTEGERS = ("seed", "batch_size")
RANGES = {
    "seed": (0, 2**53, "a whole number from 0 to 2**53"),
    "lr": (0, sys.float_info.max, "a finite number from 0"),
    "weight_decay": (0, sys.float_info.max, "a finite number from 0"),
    "dropout": (0, math.nextafter(1, 0), "a number from 0 to below 1"),
    "batch_size": (1, 2**31 - 1, "a whole number from 1"),
    "train_fraction": (math.nextafter(0, 1), 1, "a number above 0, at most 1"),
    "label_noise": (0, 1, "a number from 0 to 1"),
}
"""The least and the largest value of a factor, and how a message says them; a float holds whole numbers to 2**53."""
WEIGHTY = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Modules whose weights an init draws; others start as they do of themselves."""
BIAS_START = 0.01
"""Every bias starts here. Source: Model Zoos (arXiv 2209.14764), released generator."""


def choose_architecture(choice: str | Mlp | Resnet | Module, shape: tuple[int, int, int], num_classes: int) -> Network:
    """Build the network that a zoo names or describes, for images of a shape and some classes.

    Raises:
        BadInput: nothing has that name, or a module cannot be made or run.
    """
    if isinstance(choice, Mlp):
        return build_mlp(shape, choice.widths, num_classes, choice.bias)
    if isinstance(choice, Resnet):
        return describe_residual(choice.depth, choice.width, shape, num_classes)
    if isinstance(choice, Module):
        return describe_named(choice.path, choice.arguments, shape, num_classes)
    return build_architecture(choice, shape, num_classes)


def draw_members(config: Draw | Grid, network: Network | None = None) -> pd.DataFrame:
    """List a zoo's members: one row each, `member` and its factors.

    The first rows of a draw do not depend on how many follow.

    Args:
        network: what they are; None: a network that has all factors.

    Raises:
        BadInput: a factor is missing or has a value that no engine knows, a grid grows beyond its bound, or two members
            are one.
    """
    check_factors(config, network)
    table = draw_table(config) if isinstance(config, Draw) else expand_grid(config)
    names = [name for name in FACTORS if name in table]
    for name in names:
        table[name] = table[name].astype("int64" if name in INTEGERS else "str" if name in WORDS else "float64")
    if table.duplicated(names).any():
        seed = table.loc[table.duplicated(names), "seed"].iloc[0]
        raise BadInput(
            f"members: got two with seed {seed} and all other factors alike, wanted no two alike: a split by member "
            "could put one on each side"
        )
    table.insert(0, "member", pd.Series([f"m{i:06d}" for i in range(len(table))], dtype="str"))
    return table.loc[:, ["member", *names]]


def check_factors(config: Draw | Grid, network: Network | None) -> None:
    """Refuse a missing factor, an unknown word, a number out of range, and what a network does not have."""
    own = set(OWN) if isinstance(network, NamedModule) else set()
    for name in sorted(own & set(config.factors)):
        raise BadInput(f"members.factors.{name}: of a module, wanted it left out; the module has its own")
    missing = set(FACTORS) - {"seed", *OPTIONAL} - set(config.factors) - own
    if missing:
        raise BadInput(f"members.factors: {', '.join(sorted(missing))} missing; every factor must be said")
    for name, factor in config.factors.items():
        if isinstance(config, Grid) and not isinstance(factor, Fixed | Choice):
            raise BadInput(f"members.factors.{name}: got {factor.kind} in a grid, wanted fixed or choice")
        check_factor(name, factor)
        for value in list_bounds(factor):
            if name == "dropout" and value and isinstance(network, ResidualNetwork):
                raise BadInput(f"members.factors.dropout: got {value!r}, wanted 0: {network.name} has no dropout")
    if isinstance(config, Grid):
        check_grid(config)


def check_factor(name: FactorName, factor: Factor) -> None:
    """Refuse values that a factor cannot take, bounds the wrong way round, and bounds of whole numbers."""
    key = f"members.factors.{name}"
    for value in list_bounds(factor):
        check_value(key, name, value)
    if isinstance(factor, Fixed | Choice):
        return
    if name in INTEGERS:
        raise BadInput(f"{key}: got {factor.kind}, wanted fixed or choice: it is a whole number")
    if factor.low > factor.high:
        raise BadInput(f"{key}: got low {factor.low!r} above high {factor.high!r}, wanted low at most high")


def check_grid(config: Grid) -> None:
    """Refuse seeds that are none, and a value or a seed that stands twice: two members would be one."""
    seeds = () if isinstance(config.seeds, DrawnSeeds) else config.seeds
    for seed in seeds:
        check_value("members.seeds", "seed", seed)
    named = {f"members.factors.{name}": list_bounds(factor) for name, factor in config.factors.items()}
    for key, values in {"members.seeds": seeds, **named}.items():
        for value, count in Counter(values).items():
            if count > 1:
                raise BadInput(f"{key}: got {value!r} twice in a grid, wanted each value once: members would be alike")


def list_bounds(factor: Factor) -> tuple[Value, ...]:
    """Return the values, or the two ends, of a factor."""
    if isinstance(factor, Fixed):
        return (factor.value,)
    return factor.values if isinstance(factor, Choice) else (factor.low, factor.high)


def check_value(key: str, name: FactorName, value: Value) -> None:
    """Refuse a value, which stands at a key, that a factor cannot take."""
    if name in WORDS:
        if value not in WORDS[name]:
            raise BadInput(f"{key}: got {value!r}, wanted one of {', '.join(WORDS[name])}")
        return
    low, high, wanted = RANGES[name]
    if isinstance(value, str | bool) or not low <= value <= high or (name in INTEGERS and value % 1):
        raise BadInput(f"{key}: got {value!r}, wanted {wanted}")


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


def count_images(factors: pd.DataFrame, num_images: int) -> Int64[np.ndarray, " members"]:
    """Count the training images that each member uses, of so many."""
    return np.maximum(1, np.round(factors["train_fraction"].to_numpy(float) * num_images)).astype(np.int64)


def initialize_members(network: Network, factors: pd.DataFrame) -> Float32[torch.Tensor, "members weights"]:
    """Draw each member's initial weights from its own seed, in float32.

    `uniform` is U(0, 1) and `normal` is N(0, 1), as in the published zoos; `default` is what torch's layers draw if
    nobody says otherwise; the others are torch's with default gain. Norms start at scale 1 and shift 0.
    """
    rows = zip(factors["seed"], factors["init"], strict=True)
    if isinstance(network, Architecture):
        places = build_layout(network).places
        return torch.from_numpy(np.stack([draw_initial(places, int(seed), str(init)) for seed, init in rows]))
    return torch.stack([draw_module(network, int(seed), str(init)) for seed, init in rows])


def draw_initial(places: tuple[Place, ...], seed: int, init: str) -> Float32[np.ndarray, " weights"]:
    """Draw one member's weight vector."""
    generator = seed_generator(seed, STREAM_INIT)
    parts, before = [], places[0]
    for place in places:
        before = before if place.kind == "bias" else place
        if init == "default":
            shift, scale = scale_init(init, before.shape)
            parts.append(shift + scale * generator.random(place.size))
        else:
            parts.append(draw_place(place, init, generator))
    return np.concatenate(parts).astype(np.float32)


def draw_module(network: ModuleNetwork, seed: int, init: str) -> Float32[torch.Tensor, " weights"]:
    """Draw one member's weight vector: what the module draws of itself, but for convolutions and linear layers."""
    generator, layout = seed_generator(seed, STREAM_INIT), lay_out_network(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**63)))
        module = build_module(network, "relu")
    vector = read_vector(module, layout)
    if init == "default":
        return vector
    weighty = {name for name, part in module.named_modules() if isinstance(part, WEIGHTY)}
    for place in layout.places:
        if place.trained and place.name.rpartition(".")[0] in weighty:
            drawn = draw_place(place, init, generator)
            vector[place.offset : place.stop] = torch.from_numpy(drawn.astype(np.float32))
    return vector


def draw_place(place: Place, init: str, generator: np.random.Generator) -> Float[np.ndarray, " size"]:
    """Draw one tensor's numbers; a bias has a fixed start."""
    if place.kind == "bias":
        return np.full(place.size, BIAS_START)
    shift, scale = scale_init(init, place.shape)
    unit = generator.standard_normal(place.size) if init.endswith("normal") else generator.random(place.size)
    return shift + scale * unit


def scale_init(init: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return shift and scale of unit random numbers (standard normal, or uniform from 0 to 1) for a weight's shape."""
    receptive = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * receptive, shape[0] * receptive
    if init == "default":
        return -1 / math.sqrt(fan_in), 2 / math.sqrt(fan_in)
    std = math.sqrt(2 / fan_in) if init.startswith("kaiming") else math.sqrt(2 / (fan_in + fan_out))
    if init in ("uniform", "normal"):
        return 0.0, 1.0
    if init.endswith("normal"):
        return 0.0, std
    return -math.sqrt(3) * std, 2 * math.sqrt(3) * std
