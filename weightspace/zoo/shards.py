"""Cut a zoo into shards, train one, and lay its trajectory out as checkpoints."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from weightspace.config import BadInput, digest_value
from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture
from weightspace.store import Checkpoints
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import Network, lay_out_network
from weightspace.zoo.members import draw_members, initialize_members
from weightspace.zoo.train import RECIPE_FACTORS, choose_engine, train_table
from weightspace.zoo.training import Trajectory

REPORT_EVERY_S = 5.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Members that are trained together and kept as one file."""

    number: int
    factors: pd.DataFrame
    """A row a member: its name and factors."""
    digest: str
    """Stands for everything that decides the shard's checkpoints."""


def plan_shards(config: ZooConfig, architecture: Network, images_digest: str) -> list[Shard]:
    """Draw a zoo's members and cut them into shards, each of members with similar recipes."""
    check_engine(config, architecture)
    members = draw_members(config.members, architecture)
    order = [name for name in RECIPE_FACTORS if name in members]
    members = members.sort_values([*order, "train_fraction", "member"])
    shards = []
    for start in range(0, len(members), config.shard_size):
        factors = members.iloc[start : start + config.shard_size].reset_index(drop=True)
        decides = {
            "architecture": architecture.model_dump(mode="json"),
            "images": images_digest,
            "members": factors.to_dict("list"),
            "epochs": config.epochs,
            "engine": [config.engine, config.device],
            **({} if config.together is None else {"together": config.together}),
        }
        shards.append(Shard(len(shards), factors, digest_value(decides)))
    return shards


def check_engine(config: ZooConfig, network: Network) -> None:
    """Say which engine trains what only one does, and refuse another before any work.

    Raises:
        BadInput: another is asked for, or members side by side of what is trained all at once.
    """
    if isinstance(network, Architecture):
        if config.together is not None:
            raise BadInput(
                f"together: got {config.together} for {network.name}, wanted it left out: shard_size decides"
            )
        return
    choose_engine(config.engine, torch.device("cpu"), network)
    if config.engine == "auto":
        logger.info("%s: trained by the engine torch, the only one that can", network.name)


def train_shard(
    shard: Shard, config: ZooConfig, architecture: Network, images: PreparedImages, device: torch.device
) -> Checkpoints:
    """Train the members of a shard; returns every epoch of every member, member by member."""
    initial = initialize_members(architecture, shard.factors)
    trajectory = train_table(
        architecture,
        shard.factors,
        initial,
        images,
        config.epochs,
        config.engine,
        device,
        log_progress(f"shard {shard.number}", len(shard.factors) * (config.epochs + 1)),
        config.together,
    )
    return lay_out_checkpoints(architecture, shard.factors, trajectory)


def log_progress(what: str, total: int) -> Callable[[int], None]:
    """Make a counter of checkpoints that logs rate and time left now and then."""
    started = shown = time.monotonic()
    done = 0

    def count(more: int) -> None:
        nonlocal done, shown
        done += more
        now = time.monotonic()
        if now - shown < REPORT_EVERY_S and done < total:
            return
        shown, rate = now, done / max(now - started, 1e-9)
        logger.info(
            "%s: %d of %d member epochs, %.0f a second, %.0f s left", what, done, total, rate, (total - done) / rate
        )

    return count


def lay_out_checkpoints(architecture: Network, factors: pd.DataFrame, trajectory: Trajectory) -> Checkpoints:
    """Turn a trajectory into rows: one a checkpoint, with its properties and the member's factors."""
    layout = lay_out_network(architecture)
    num_members, num_checkpoints = trajectory.weights.shape[:2]
    rows = np.repeat(np.arange(num_members), num_checkpoints)
    table = factors.iloc[rows].reset_index(drop=True)
    table.insert(1, "epoch", np.tile(np.arange(num_checkpoints), num_members))
    for offset, (name, values) in enumerate(trajectory.properties.items()):
        table.insert(2 + offset, name, values.reshape(-1))
    after = 2 + len(trajectory.properties)
    table.insert(after, "generalization_gap", table["train_accuracy"] - table["test_accuracy"])
    weights = trajectory.weights.reshape(-1, layout.num_weights)
    finite = np.isfinite(weights).all(1) & np.isfinite(table["train_loss"]) & np.isfinite(table["test_loss"])
    table.insert(after + 1, "diverged", ~finite.to_numpy())
    return Checkpoints(layout, table, weights)
