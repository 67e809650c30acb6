"""Cut the twins of a zoo into shards, and make one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture
from weightspace.record import digest_with_code
from weightspace.store import Checkpoints, read_rows
from weightspace.twins.config import TwinsConfig
from weightspace.twins.parents import Parents
from weightspace.twins.train import count_checkpoints, train_twins
from weightspace.zoo.progress import log_progress
from weightspace.zoo.shards import lay_out_checkpoints
from weightspace.zoo.train import RECIPE_FACTORS


@dataclass(frozen=True)
class TwinShard:
    """Members whose twins are made together and kept as one file."""

    number: int
    factors: pd.DataFrame
    """A row a member: its name and factors."""
    rows: Int64[np.ndarray, " members"]
    """Where its checkpoint lies, counted over the parts of the zoo."""
    digest: str
    """Stands for everything that decides the shard's checkpoints, the code among it."""


def plan_twins(config: TwinsConfig, parents: Parents, zoo_digest: str) -> list[TwinShard]:
    """Cut the members of a zoo into shards, each of members with similar recipes."""
    order = parents.factors.sort_values([*RECIPE_FACTORS, "train_fraction", "member"]).index.to_numpy()
    shards = []
    for start in range(0, len(order), config.shard_size):
        chosen = order[start : start + config.shard_size]
        factors = parents.factors.iloc[chosen].reset_index(drop=True)
        decides = {
            "zoo": zoo_digest,
            "from_epoch": config.from_epoch,
            "members": factors["member"].tolist(),
            "method": config.method.model_dump(mode="json"),
            "device": config.device,
        }
        shards.append(TwinShard(len(shards), factors, parents.rows[chosen], digest_with_code(decides)))
    return shards


def train_twin_shard(
    shard: TwinShard,
    config: TwinsConfig,
    architecture: Architecture,
    zoo: Path,
    images: PreparedImages,
    device: torch.device,
    folder: Path | None = None,
) -> Checkpoints:
    """Make the twins of a shard from checkpoints in a zoo's folder; returns every epoch of each, twin by twin.

    Args:
        folder: on whose disk weights lie if they are many; None: in memory.

    Raises:
        BadInput: the zoo cannot be read.
        OSError: that disk is full.
    """
    start = torch.from_numpy(read_rows(zoo, shard.rows).copy())
    count = log_progress(f"shard {shard.number}", len(shard.factors) * count_checkpoints(config))
    trajectory = train_twins(config, architecture, shard.factors, start, images, device, count, folder)
    return lay_out_checkpoints(architecture, shard.factors, trajectory)
