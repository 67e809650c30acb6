"""Train networks on from where they stand, all on one budget, and keep their curves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture
from weightspace.transfer.config import TransferConfig
from weightspace.transfer.starts import Starts
from weightspace.zoo.progress import log_progress
from weightspace.zoo.train import train_table
from weightspace.zoo.training import PROPERTIES, Trajectory

SEEDS_APART = 1_000_000


@dataclass(frozen=True)
class TransferTables:
    """What the stage leaves."""

    curves: pd.DataFrame
    """For each starting point and epoch: row, sample, activation, lr, epoch, six properties, diverged."""
    candidates: pd.DataFrame
    """For each row and learning rate: mean validation accuracy after the last epoch, and whether it was chosen."""


def plan_runs(config: TransferConfig, starts: Starts) -> pd.DataFrame:
    """List what is trained, every starting point with every learning rate: start, row, sample, activation, lr."""
    num, rates = len(starts.table), len(config.lr)
    runs = pd.concat([starts.table] * rates, ignore_index=True)
    runs.insert(0, "start", np.tile(np.arange(num), rates))
    return runs.assign(lr=np.repeat(np.array(config.lr), num))


def train_runs(
    config: TransferConfig,
    architecture: Architecture,
    starts: Starts,
    runs: pd.DataFrame,
    images: PreparedImages,
    device: torch.device,
) -> pd.DataFrame:
    """Train some of the runs that `plan_runs` lists.

    Returns:
        One row for each of them and epoch: their columns, epoch, six properties, diverged. Those on training images
        are of each epoch's batches as they were learned from.
    """
    factors = runs.assign(
        seed=config.seed * SEEDS_APART + runs["sample"],
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        batch_size=config.batch_size,
        train_fraction=config.train_fraction,
    ).reset_index(drop=True)
    initial = torch.from_numpy(starts.weights[runs["start"]])
    count = log_progress("transfer", len(runs) * (config.epochs + 1), "network epochs")
    found = train_table(
        architecture,
        factors,
        initial,
        images,
        config.epochs,
        config.engine,
        device,
        count,
        train_metrics="during",
    )
    return lay_curves(runs.reset_index(drop=True), found)


def compare_rates(config: TransferConfig, curves: pd.DataFrame) -> TransferTables:
    """Keep each row's best rate on validation images, from the curves of all runs."""
    candidates = choose_rates(curves, config)
    chosen = candidates.loc[candidates["chosen"], ["row", "lr"]]
    kept = curves.merge(chosen, on=["row", "lr"], how="inner")
    return TransferTables(kept.sort_values(["start", "epoch"]).drop(columns="start").reset_index(drop=True), candidates)


def lay_curves(table: pd.DataFrame, found: Trajectory) -> pd.DataFrame:
    """Lay trajectories out as one row for each network and epoch."""
    epochs = found.weights.shape[1]
    curves = table.loc[table.index.repeat(epochs)].reset_index(drop=True)
    curves["epoch"] = np.tile(np.arange(epochs), len(table))
    diverged = ~np.isfinite(found.weights).all(-1)
    for name in PROPERTIES:
        curves[name] = found.properties[name].reshape(-1)
        diverged |= ~np.isfinite(found.properties[name])
    return curves.assign(diverged=diverged.reshape(-1))


def choose_rates(curves: pd.DataFrame, config: TransferConfig) -> pd.DataFrame:
    """Compare learning rates by a row's mean validation accuracy after the last epoch; a diverged network counts 0."""
    last = (curves["epoch"] == config.epochs).to_numpy()
    rows, rates = curves["row"].to_numpy(str)[last], curves["lr"].to_numpy(float)[last]
    scores = np.where(curves["diverged"], 0.0, curves["val_accuracy"])[last]
    candidates: list[dict[str, object]] = []
    for row in config.rows:
        values = [float(scores[(rows == row) & (rates == rate)].mean()) for rate in config.lr]
        best = int(np.argmax(values))
        for i, (rate, value) in enumerate(zip(config.lr, values, strict=True)):
            candidates.append({"row": row, "lr": rate, "val_accuracy": value, "chosen": i == best})
    return pd.DataFrame(candidates)


def write_transfer(folder: Path, tables: TransferTables) -> None:
    """Write curves into a folder that exists."""
    for name, table in (("curves", tables.curves), ("candidates", tables.candidates)):
        table.to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)
