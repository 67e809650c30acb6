"""Read the networks that twins start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from weightspace.config import BadInput
from weightspace.factors import FACTORS
from weightspace.networks import Architecture, read_chain
from weightspace.store import read_table
from weightspace.twins.config import TwinsConfig

NEEDED = ("seed", "activation", "optimizer", "lr", "weight_decay", "dropout", "batch_size", "train_fraction")
"""Factors without which a member cannot train on."""


@dataclass(frozen=True)
class Parents:
    """One checkpoint of each member of a zoo."""

    architecture: Architecture
    factors: pd.DataFrame
    """A row a member: its name and factors."""
    rows: Int64[np.ndarray, " members"]
    """Where its checkpoint lies, counted over the parts of the zoo."""
    about: dict[str, Any]
    """What the zoo says of all checkpoints."""


def read_parents(folder: Path, config: TwinsConfig, images_digest: str) -> Parents:
    """Look up the checkpoints of one epoch of a zoo, without their weights.

    Raises:
        BadInput: networks are no chains of blocks, were trained on other images or in an unknown way, or have no
            checkpoint of that epoch.
    """
    _, table, about = read_table(folder)
    architecture = read_chain(about.get("architecture"))
    if architecture is None:
        raise BadInput(f"{folder}: its networks are no chains of blocks, wanted a zoo of these for sparse twins")
    trained_on = about.get("images", {}).get("digest")
    if trained_on != images_digest:
        raise BadInput(f"images: got {config.images!r}, wanted those that zoo {config.zoo} was trained on")
    rows = np.flatnonzero(table["epoch"] == config.from_epoch)
    if not len(rows):
        known = table["epoch"]
        raise BadInput(
            f"from_epoch: got {config.from_epoch}, wanted an epoch of zoo {config.zoo}, from {known.min()} to "
            f"{known.max()}"
        )
    unknown = [name for name in NEEDED if name not in table or table[name].iloc[rows].isna().any()]
    if unknown:
        raise BadInput(f"zoo {config.zoo}: does not say {', '.join(unknown)} of each member, wanted one that does")
    names = ["member", *(name for name in FACTORS if name in table)]
    return Parents(architecture, table.loc[rows, names].reset_index(drop=True), rows, about)
