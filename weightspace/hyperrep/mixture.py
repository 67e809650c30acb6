"""Learn from several zoos and layouts at once: gather each, say how often it is drawn, and draw."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.config import BadInput
from weightspace.hyperrep.batches import (
    Batch,
    Batching,
    Pool,
    Source,
    draw_batch,
    draw_validation,
    gather_pool,
    seed_stream,
)
from weightspace.hyperrep.config import (
    HyperrepConfig,
    ProportionalSampling,
    SamplingConfig,
    TrainingConfig,
    UniformSampling,
    WeightedSampling,
)
from weightspace.hyperrep.kinds import tell_kinds
from weightspace.tokens.tokenizer import Tokenizer

log = logging.getLogger(__name__)
STREAM_LAYOUT, STREAM_ZOO = 7, 8
"""Beside the streams of `batches`, `behaviour` and `criterion`."""
HOLD_BYTES = 2**30
"""Training networks of no more weights than this are held in memory; others stay on disk, read batch by batch."""


@dataclass(frozen=True)
class Part:
    """Networks of one layout that are learned from, of one zoo or several."""

    source: Source
    batching: Batching
    pool: Pool
    val_pool: Pool
    names: Mapping[str, str]
    """Of its zoos, unlike those of other layouts; by what the pools call them."""
    shares: Mapping[str, float]
    """How likely a network is to be of each zoo, by the same; over all parts they add up to 1."""

    @property
    def share(self) -> float:
        """Say how likely a step is to have networks of this layout."""
        return sum(self.shares.values())


def gather_parts(
    data: Mapping[str, Source], config: HyperrepConfig, tokenizers: Mapping[str, Tokenizer], window: int
) -> tuple[Part, ...]:
    """Gather the networks of each layout.

    Args:
        window: tokens the model sees at once; networks with fewer are seen whole.

    Raises:
        BadInput: a layout has no train or no validation checkpoint of the epochs wanted, or the weights of the sampling
            are not of the zoos that there are.
    """
    epochs = config.training.epochs
    pools: dict[str, tuple[Pool, Pool]] = {}
    for name, source in data.items():
        where = "the weight data set" if len(data) == 1 else name
        train = gather_pool(source, epochs, "train", HOLD_BYTES // len(data), where)
        pools[name] = train, gather_pool(source, epochs, "val", 0, where)  # few of them are looked at
    names = name_zoos({layout: tuple(zoo for pool in pair for zoo in pool.zoos) for layout, pair in pools.items()})
    sizes = {
        names[layout][zoo]: len(members) for layout, (train, _) in pools.items() for zoo, members in train.zoos.items()
    }
    shares = weigh_zoos(config.training.sampling, sizes)
    parts: list[Part] = []
    for number, (layout, (train, val)) in enumerate(pools.items()):
        tokenizer = tokenizers[layout]
        shown = min(window, tokenizer.num_tokens)
        batching = Batching(tokenizer, tell_kinds(tokenizer), shown, config.views, number)
        own = {zoo: shares[names[layout][zoo]] for zoo in train.zoos}
        parts.append(Part(data[layout], batching, train, val, names[layout], own))
    return tuple(parts)


def name_zoos(zoos: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Name the zoos of each layout apart: by the layout where they have no name, and with it where one has several."""
    alike = Counter(zoo for some in zoos.values() for zoo in set(some))
    return {
        layout: {zoo: zoo if zoo and alike[zoo] == 1 else f"{zoo}.{layout}".lstrip(".") for zoo in some}
        for layout, some in zoos.items()
    }


def weigh_zoos(sampling: SamplingConfig, sizes: Mapping[str, int]) -> dict[str, float]:
    """Say how likely a network is to be of each zoo.

    Args:
        sizes: train members of each.

    Raises:
        BadInput: weights are given, and not one for each.
    """
    match sampling:
        case ProportionalSampling():
            weights: dict[str, float] = dict(sizes)
        case UniformSampling():
            weights = dict.fromkeys(sizes, 1.0)
        case WeightedSampling(weights=given):
            if set(given) != set(sizes):
                raise BadInput(
                    f"training.sampling.weights: got {', '.join(given)}, wanted one for each of {', '.join(sizes)}"
                )
            weights = {zoo: given[zoo] for zoo in sizes}
    total = sum(weights.values())
    return {zoo: weight / total for zoo, weight in weights.items()}


def draw_step(parts: Sequence[Part], rules: TrainingConfig, step: int) -> Batch:
    """Draw the batch of one training step, of one layout; it depends on the seed and the step alone."""
    part = parts[choose_part([one.share for one in parts], rules.seed, step)]
    counts = None
    if len(part.shares) > 1 and rules.sampling.kind != "proportional":
        counts = share_networks(part.shares, rules.num_networks, seed_stream(rules.seed, STREAM_ZOO, step))
    return draw_batch(part.pool, part.batching, rules, step, counts)


def choose_part(shares: Sequence[float], seed: int, step: int) -> int:
    """Draw the number of the layout that the networks of a step have."""
    if len(shares) == 1:
        return 0
    return int(torch.multinomial(torch.tensor(shares), 1, generator=seed_stream(seed, STREAM_LAYOUT, step)))


def share_networks(shares: Mapping[str, float], num: int, generator: torch.Generator) -> dict[str, int]:
    """Draw of which zoo each of some networks is, and count."""
    weights: Float[Tensor, " zoos"] = torch.tensor([*shares.values()])
    drawn = torch.multinomial(weights, num, replacement=True, generator=generator)
    return dict(zip(shares, drawn.bincount(minlength=len(shares)).tolist(), strict=True))


def look_at_zoos(parts: Sequence[Part], rules: TrainingConfig) -> dict[str, list[Batch]]:
    """Draw the batches of every validation, for each zoo that has validation members."""
    zoos = [(part, zoo, members) for part in parts for zoo, members in part.val_pool.zoos.items()]
    if len(zoos) == 1:
        ((part, zoo, _),) = zoos
        return {part.names[zoo]: draw_validation(part.val_pool, part.batching, rules)}
    return {
        part.names[zoo]: draw_validation(part.val_pool, part.batching, rules, members, number)
        for number, (part, zoo, members) in enumerate(zoos)
    }


def weigh_looks(parts: Sequence[Part], looks: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """Say how much each zoo counts in what validation says of all: as often as it is drawn in training.

    Raises:
        BadInput: no zoo that is drawn in training has validation members.
    """
    shares = {part.names[zoo]: share for part in parts for zoo, share in part.shares.items()}
    known = {name: shares.get(name, 0.0) for name in looks}
    total = sum(known.values())
    if not total:
        raise BadInput(
            f"training.sampling: the only zoos with validation members, {', '.join(looks)}, are not drawn in training; "
            "wanted some of a zoo that is"
        )
    return {name: share / total for name, share in known.items()}
