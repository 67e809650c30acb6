"""Turn a weight data set into batches: networks drawn, views made, windows cut, all on the fly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.hyperrep.config import TrainingConfig, ViewsConfig
from weightspace.networks import Activation
from weightspace.schema import ZOO
from weightspace.tokens.tokenizer import Tokenizer
from weightspace.tokens.views import make_view
from weightspace.tokens.windows import draw_starts, take_windows
from weightspace.weights.config import EpochList, EpochRange
from weightspace.weights.weight_data import WeightData
from weightspace.weights.weight_table import WeightTable

Source = WeightData | WeightTable
"""A weight data set, in memory or on disk."""
STREAM_INIT, STREAM_TRAIN, STREAM_VAL_ROWS, STREAM_VAL_VIEWS = range(4)
ACTIVATION_NAMES: tuple[Activation, ...] = get_args(Activation)


@dataclass(frozen=True)
class Batch:
    """Two views of the same networks, cut at the same window."""

    inputs: Float[Tensor, "views tokens d_token"]
    """First all first views, then all second views; noised and erased where the configuration says so."""
    targets: Float[Tensor, "views tokens d_token"]
    """The same without noise and gaps, or as they are, as the configuration says."""
    kinds: Int64[Tensor, "tokens d_token"]
    positions: Int64[Tensor, "tokens 3"]
    activation: Int64[Tensor, " networks"]
    """Of each network, by its place in `ACTIVATION_NAMES`; -1 where the zoo tells none that can be run."""
    layout: Int64[Tensor, ""]
    """Number of the layout that all of them have."""

    def to(self, device: torch.device) -> "Batch":
        """Move to a device."""
        return Batch(*(getattr(self, part.name).to(device) for part in fields(self)))


@dataclass(frozen=True)
class Batching:
    """How networks become batches."""

    tokenizer: Tokenizer
    kinds: Int64[Tensor, "tokens d_token"]
    window: int
    views: ViewsConfig
    layout: int = 0
    """Number of the layout among those that are learned from."""


@dataclass(frozen=True)
class Pool:
    """Networks to draw from."""

    source: Source
    rows: Int64[np.ndarray, " checkpoints"]
    """Which of the source's checkpoints they are."""
    held: Float32[Tensor, "checkpoints weights"] | None
    """Their weights, standardised, where these are few enough; None leaves them to the source."""
    member: Int64[Tensor, " checkpoints"]
    """Number of the member that each row is a checkpoint of, rising from 0."""
    first: Int64[Tensor, " members"]
    """First row of each member; its rows lie together."""
    activation: Int64[Tensor, " checkpoints"]
    """By its place in `ACTIVATION_NAMES`; -1 where the zoo tells none that can be run."""
    zoos: dict[str, Int64[Tensor, " some"]]
    """Members of each zoo, rising; all under an empty name where the data set does not tell zoos apart."""

    @property
    def num_members(self) -> int:
        """Count the members."""
        return len(self.first)

    @property
    def num_networks(self) -> int:
        """Count the checkpoints."""
        return len(self.rows)

    def thin_out(self, most: int) -> Int64[Tensor, " networks"]:
        """Number the networks, or so many of them at equal steps where there are more."""
        return torch.arange(0, self.num_networks, -(-self.num_networks // most))

    def find_networks(self, members: Int64[Tensor, " some"]) -> Int64[Tensor, " networks"]:
        """Number the checkpoints of some members."""
        return torch.isin(self.member, members).nonzero().flatten()

    def take(self, chosen: Int64[Tensor, " networks"]) -> Float32[Tensor, "networks weights"]:
        """Return some networks, standardised."""
        if self.held is not None:
            return self.held[chosen]
        return read_standardized(self.source, self.rows[chosen.numpy()])


def read_standardized(source: Source, rows: Int64[np.ndarray, " rows"]) -> Float32[Tensor, "rows weights"]:
    """Read some checkpoints of a source and standardise them."""
    return source.statistics.standardize(source.layout, source.read(rows))


def seed_stream(seed: int, *stream: int) -> torch.Generator:
    """Make the generator of one purpose and step; what it draws depends on no step before."""
    state = np.random.SeedSequence([seed, *stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def select_epochs(epoch: Int[np.ndarray, " rows"], epochs: EpochRange | EpochList) -> Bool[np.ndarray, " rows"]:
    """Tell which rows are of an epoch to learn from."""
    if epochs.kind == "list":
        return np.isin(epoch, epochs.epochs)
    last = epoch.max() if epochs.last is None else epochs.last
    return (epoch >= epochs.first) & (epoch <= last) & ((epoch - epochs.first) % epochs.every == 0)


def gather_pool(
    source: Source, epochs: EpochRange | EpochList, split: str, hold_bytes: int, where: str = "the weight data set"
) -> Pool:
    """Gather the networks of a split that have not diverged, of the epochs to learn from.

    Args:
        hold_bytes: up to so many bytes of weights are read at once and held; changes the time, not the networks.
        where: names the networks in what is said if there are none.

    Raises:
        BadInput: there are none.
    """
    table = source.table
    rows = source.rows(split)
    rows = rows[select_epochs(table["epoch"].to_numpy()[rows], epochs)]
    if len(rows) == 0:
        have = f"{table['epoch'].min()} to {table['epoch'].max()}"
        raise BadInput(f"training.epochs: no {split} checkpoint of these; {where} has epochs {have}")
    names = table["member"].to_numpy()[rows]
    order = np.argsort(names, kind="stable")
    _, first, member = np.unique(names[order], return_index=True, return_inverse=True)
    rows = rows[order]
    held = read_standardized(source, rows) if 4 * len(rows) * source.layout.num_weights <= hold_bytes else None
    activation = tell_activations(table)[rows]
    zoos = group_members(table, rows[first])
    return Pool(source, rows, held, *map(torch.from_numpy, (member, first, activation)), zoos=zoos)


def group_members(table: pd.DataFrame, rows: Int64[np.ndarray, " members"]) -> dict[str, Int64[Tensor, " some"]]:
    """Group members by their zoo, each member being told of by one row of the table."""
    if ZOO not in table:
        return {"": torch.arange(len(rows))}
    zoos = table[ZOO].to_numpy(str)[rows]
    return {str(zoo): torch.from_numpy(np.flatnonzero(zoos == zoo)) for zoo in np.unique(zoos)}


def tell_activations(table: pd.DataFrame) -> Int64[np.ndarray, " rows"]:
    """Number each row's activation by its place in `ACTIVATION_NAMES`; -1 where there is none that can be run."""
    if "activation" not in table:
        return np.full(len(table), -1)
    return pd.Index(ACTIVATION_NAMES).get_indexer(pd.Index(table["activation"].astype(object))).astype(np.int64)


def draw_networks(
    pool: Pool, num: int, generator: torch.Generator, among: Int64[Tensor, " some"] | None = None
) -> Int64[Tensor, " num"]:
    """Draw checkpoints of different members, as long as there are members; then another round of them.

    Two checkpoints of one member side by side would be told apart by the contrast as if they were strangers.

    Args:
        among: members to draw from; None: all.
    """
    among = torch.arange(pool.num_members) if among is None else among
    rounds = [torch.randperm(len(among), generator=generator) for _ in range(-(-num // len(among)))]
    member = among[torch.cat(rounds)[:num]] if rounds else among[:0]
    counts = pool.member.bincount()
    share = torch.rand(num, generator=generator, dtype=torch.float64)
    return pool.first[member] + (share * counts[member]).long()


def make_batch(
    pool: Pool,
    rows: Int64[Tensor, " networks"],
    batching: Batching,
    views: ViewsConfig,
    generator: torch.Generator,
) -> Batch:
    """Make both views of some networks of a pool, and cut one window, the same for all."""
    tokenizer, window, weights = batching.tokenizer, batching.window, pool.take(rows)
    layout = tokenizer.layout
    first = make_view(layout, weights, generator, permute=views.permute == "both", noise=0.0)
    second = make_view(layout, weights, generator, permute=views.permute != "none", noise=0.0)
    clean = torch.cat([first, second])
    noised = make_view(layout, clean, generator, permute=False, noise=views.noise, erase=views.erase)
    start = draw_starts(tokenizer.num_tokens, window, len(clean), generator, shared=True)
    place = slice(int(start[0]), int(start[0]) + window)
    return Batch(
        inputs=take_windows(tokenizer.tokenize(noised), start, window),
        targets=take_windows(tokenizer.tokenize(clean if views.target == "clean" else noised), start, window),
        kinds=batching.kinds[place],
        positions=tokenizer.positions[place],
        activation=pool.activation[rows],
        layout=torch.tensor(batching.layout),
    )


def draw_batch(
    pool: Pool,
    batching: Batching,
    rules: TrainingConfig,
    step: int,
    counts: Mapping[str, int] | None = None,
) -> Batch:
    """Draw the batch of one training step, which depends on the seed and the step alone.

    Args:
        counts: networks of each zoo of the pool; None: as many as a step has, whatever zoo they are of.
    """
    generator = seed_stream(rules.seed, STREAM_TRAIN, step)
    if counts is None:
        rows = draw_networks(pool, rules.num_networks, generator)
    else:
        rows = torch.cat([draw_networks(pool, num, generator, pool.zoos[zoo]) for zoo, num in counts.items()])
    return make_batch(pool, rows, batching, batching.views, generator)


def draw_validation(
    pool: Pool,
    batching: Batching,
    rules: TrainingConfig,
    among: Int64[Tensor, " some"] | None = None,
    *stream: int,
) -> list[Batch]:
    """Draw the batches of every validation: the same networks, windows and views each time, without noise or gaps.

    Args:
        among: members to look at; None: all.
        stream: number of the zoo that these are of, where there are several.
    """
    generator = seed_stream(rules.seed, STREAM_VAL_ROWS, *stream)
    views = batching.views.model_copy(update={"noise": 0.0, "erase": 0.0})
    networks = torch.arange(pool.num_networks) if among is None else pool.find_networks(among)
    rows = networks[torch.randperm(len(networks), generator=generator)[: rules.validation_rows]]
    return [
        make_batch(pool, part, batching, views, seed_stream(rules.seed, STREAM_VAL_VIEWS, *stream, i))
        for i, part in enumerate(rows.split(rules.num_networks))
    ]
