"""Make the rows of a table of samples: generated weights, and what they must be seen beside."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from torch import Tensor

from weightspace.networks import Architecture, build_layout
from weightspace.samples.anchors import Anchors, draw_anchors, draw_distinct
from weightspace.samples.config import ROWS, AnchorAverage, AnchorNoise, Sampler, SamplesConfig
from weightspace.samples.samplers import perturb_weights, sample_latents
from weightspace.zoo.members import INITS, initialize_members

logger = logging.getLogger(__name__)
SANE_INIT = "kaiming_uniform"
Decode = Callable[[Tensor], Tensor]
"""Latents `[networks, tokens, d_latent]` in, aligned weights `[networks, weights]` out."""


@dataclass(frozen=True)
class Row:
    """The samples of one row."""

    table: pd.DataFrame
    """For each sample: row, sample (its number), seen, member (its anchor's, or empty), activation, init."""
    weights: Float32[np.ndarray, "samples weights"]


def make_rows(
    config: SamplesConfig, architecture: Architecture, anchors: Anchors, unseen: Anchors, decode: Decode
) -> Iterator[Row]:
    """Yield every row, in the order of `ROWS`; without `random_init` where the init of an anchor is not known.

    Args:
        unseen: the best checkpoints of the test members.
    """
    unknown = sorted(set(anchors.table["init"]) - set(INITS))
    if unknown:
        got, wanted = unknown[0] or "nothing", ", ".join(INITS)
        logger.warning(
            "no row random_init: weights %s say %r of an init, wanted one of %s", config.weights, got, wanted
        )
    else:
        yield make_random_row(config, architecture, anchors, "random_init")
    yield make_random_row(config, architecture, anchors, "random_init_sane")
    for name, source, seen in (("anchors", anchors, True), ("unseen", unseen, False)):
        picks = source.select(draw_distinct(source, config.num_samples, seed_row(config, name)))
        yield lay_row(name, picks.table, picks.weights, seen)
        yield lay_row(f"{name}_reconstructed", picks.table, decode_latents(decode, picks.latents), seen)
    for sampler in sorted(config.samplers, key=lambda sampler: ROWS.index(sampler.kind)):
        yield make_sampled_row(config, architecture, anchors, sampler, decode)


def seed_row(config: SamplesConfig, name: str) -> np.random.Generator:
    """Make the generator of one row."""
    return np.random.default_rng([config.seed, ROWS.index(name)])


def lay_row(name: str, table: pd.DataFrame, weights: Float32[np.ndarray, "samples weights"], seen: bool) -> Row:
    """Lay out the samples of one row.

    Args:
        table: member, activation and init of each sample.
    """
    start = {"row": name, "sample": np.arange(len(table)), "seen": seen}
    columns = {column: table[column].to_numpy(str) for column in ("member", "activation", "init")}
    return Row(pd.DataFrame({**start, **columns}), weights)


def decode_latents(
    decode: Decode, latents: Float32[np.ndarray, "networks tokens d_latent"]
) -> Float32[np.ndarray, "networks weights"]:
    """Decode latents that lie in memory."""
    return decode(torch.from_numpy(np.ascontiguousarray(latents))).float().cpu().numpy()


def make_random_row(config: SamplesConfig, architecture: Architecture, anchors: Anchors, name: str) -> Row:
    """Initialise networks as the anchors were, or as is usual, from seeds that the zoo has not used."""
    generator = seed_row(config, name)
    table = anchors.table.iloc[draw_anchors(anchors, config.num_samples, generator)].assign(member="")
    # Seeds of members are small; the upper half of 63 bits is free.
    table["seed"] = generator.integers(2**62, 2**63, size=len(table))
    if name == "random_init_sane":
        table["init"] = SANE_INIT
    return lay_row(name, table, initialize_members(architecture, table).numpy(), seen=False)


def make_sampled_row(
    config: SamplesConfig, architecture: Architecture, anchors: Anchors, sampler: Sampler, decode: Decode
) -> Row:
    """Let one sampler make its row."""
    if isinstance(sampler, AnchorAverage):
        return average_anchors(anchors)
    generator = seed_row(config, sampler.kind)
    if isinstance(sampler, AnchorNoise):
        picks = draw_anchors(anchors, config.num_samples, generator)
        layout = build_layout(architecture)
        weights = perturb_weights(layout, anchors.weights[picks], sampler.noise, generator)
    else:
        latents, picks = sample_latents(sampler, anchors, config.num_samples, generator)
        weights = decode_latents(decode, latents)
    table = anchors.table.iloc[picks]
    if sampler.kind == "kde_independent":
        table = table.assign(member="", init="")
    return lay_row(sampler.kind, table, weights, seen=True)


def average_anchors(anchors: Anchors) -> Row:
    """Take the mean of the anchors of each activation."""
    groups = anchors.groups
    weights = np.stack([anchors.weights[group].mean(0, dtype=np.float64) for group in groups.values()])
    table = pd.DataFrame({"member": "", "activation": list(groups), "init": ""})
    return lay_row("anchor_average", table, weights.astype(np.float32), seen=True)
