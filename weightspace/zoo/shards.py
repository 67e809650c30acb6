"""Cut a zoo into shards, train one, and lay its trajectory out as checkpoints."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from weightspace.config import BadInput
from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture
from weightspace.record import digest_with_code
from weightspace.store import Checkpoints
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import Network, lay_out_network
from weightspace.zoo.members import count_images, draw_members, initialize_members, list_bounds
from weightspace.zoo.progress import log_progress
from weightspace.zoo.together import choose_together, find_largest_batch
from weightspace.zoo.train import RECIPE_FACTORS, find_obstacle, has_triton, settle_engine, train_table
from weightspace.zoo.training import Trajectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Members that are trained together and kept as one file."""

    number: int
    factors: pd.DataFrame
    """A row a member: its name and factors."""
    digest: str
    """Stands for everything that decides the shard's checkpoints, the code among it."""
    after: float
    """Members of the shards that follow and are yet to be made, each counted as its train fraction."""


def plan_shards(config: ZooConfig, architecture: Network, images_digest: str) -> list[Shard]:
    """Draw a zoo's members and cut them into shards, each of members with similar recipes.

    Raises:
        BadInput: no such members can be drawn, or not so many trained side by side.
    """
    check_together(config, architecture)
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
            "train_metrics": config.train_metrics,
            **({} if isinstance(architecture, Architecture) else {"together": list_together(config)}),
        }
        shards.append(Shard(len(shards), factors, digest_with_code(decides), 0.0))
    return count_after(shards, [False] * len(shards))


def count_after(shards: Sequence[Shard], made: Sequence[bool]) -> list[Shard]:
    """Count the members that follow each shard, without those of shards that are made already."""
    after, counted = 0.0, list[Shard]()
    for shard, kept in zip(reversed(shards), reversed(made), strict=True):
        counted.append(replace(shard, after=after))
        after += 0.0 if kept else float(shard.factors["train_fraction"].to_numpy(float).sum())
    return counted[::-1]


def settle_zoo(config: ZooConfig, network: Network, device: str) -> ZooConfig:
    """Say in a zoo's configuration what it leaves to `auto`: once for all shards, on a device that is settled.

    Raises:
        BadInput: the engine that is asked for cannot train all members, or there is no such kind of device.
    """
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device: got {device!r}, wanted auto, cpu, cuda or cuda:n") from error
    factor = config.members.factors.get("augmentation")
    augmentations = ["none"] if factor is None else [str(value) for value in list_bounds(factor)]
    engine = settle_engine(config.engine, where, network, augmentations)
    if config.engine == "auto":
        why = "" if engine != "torch" else ", as no other can"
        if engine == "torch" and find_obstacle("fused_gpu", where, network, augmentations) is None:
            why = "; fused_gpu, which no GPU has measured yet, runs where it is asked for"
        logger.info("engine: auto is %s on %s for %s%s", engine, device, network.name, why)
    if engine == "fused_gpu" and not has_triton():
        engine = "torch"
        logger.info("engine: torch on %s in place of fused_gpu, which needs triton, and that is not installed", device)
    return config.model_copy(update={"engine": engine, "device": device})


def check_together(config: ZooConfig, network: Network) -> None:
    """Refuse to train side by side what is trained all at once, or more than a shard has.

    Raises:
        BadInput: that is asked for.
    """
    if config.together is None:
        return
    if isinstance(network, Architecture):
        raise BadInput(f"together: got {config.together} for {network.name}, wanted it left out: shard_size decides")
    if config.together > config.shard_size:
        raise BadInput(f"together: got {config.together}, wanted at most shard_size = {config.shard_size}")


def list_together(config: ZooConfig) -> list[int | None]:
    """List what, besides network and device, decides how many members train side by side, and so their last bits."""
    return [config.together, config.shard_size, find_largest_batch(config)]


def train_shard(
    shard: Shard,
    config: ZooConfig,
    architecture: Network,
    images: PreparedImages,
    device: torch.device,
    folder: Path | None = None,
) -> Checkpoints:
    """Train the members of a shard; returns every epoch of every member, member by member.

    Args:
        folder: on whose disk weights lie if they are many; None: in memory.

    Raises:
        OSError: that disk is full.
    """
    num_images, together = len(images.train), None
    if not isinstance(architecture, Architecture):
        together = choose_together(config, architecture, images, device)
    total = config.epochs * int(count_images(shard.factors, num_images).sum())
    trajectory = train_table(
        architecture,
        shard.factors,
        initialize_members(architecture, shard.factors),
        images,
        config.epochs,
        config.engine,
        device,
        together=together,
        on_images=log_progress(
            f"shard {shard.number}", total, "images x members", config.epochs * num_images * shard.after
        ),
        train_metrics=config.train_metrics,
        folder=folder,
    )
    return lay_out_checkpoints(architecture, shard.factors, trajectory)


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
    finite = np.array([np.isfinite(row).all() for row in weights])  # row by row: all may not fit into memory
    finite &= np.isfinite(table["train_loss"]) & np.isfinite(table["test_loss"])
    table.insert(after + 1, "diverged", ~finite)
    return Checkpoints(layout, table, weights)
