"""Make a weight data set from a zoo, one part at a time."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.store import (
    Checkpoints,
    iterate_parts,
    list_parts,
    name_part,
    read_part,
    read_rows,
    read_table,
    write_part,
)
from weightspace.weights.align import match_weights
from weightspace.weights.config import EpochRange, NamedMember, WeightMatching, WeightsConfig
from weightspace.weights.permute import keep_places, permute_weights
from weightspace.weights.split import split_members
from weightspace.weights.statistics import Moments, join_moments, measure_moments, pool_moments
from weightspace.weights.weight_data import Alignment, write_alignment, write_preprocessing

log = logging.getLogger(__name__)


def prepare_weight_data(zoo: Path, target: Path, config: WeightsConfig) -> None:
    """Filter, split, align and measure the checkpoints of a zoo; write the data set into a folder that exists.

    Reads the zoo three times, one part at a time, so that memory does not grow with its size.

    Raises:
        BadInput: the configuration names what the zoo does not have, or too few members are left.
    """
    layout, table, about = read_table(zoo)
    kept = choose_rows(table, config) & limit_weights(zoo, table, config)
    members = dict.fromkeys(table["member"].to_numpy()[kept].tolist())
    sides = split_members(members, config.split)
    table["split"] = [sides.get(member) for member in table["member"]]
    last = find_last(table)
    chosen = choose_reference(table, last, config)
    reference = torch.from_numpy(read_rows(zoo, np.array([chosen]))[0])
    alignment = align_members(layout, zoo, last, tuple(sides), reference, config)
    about["weights"] = config.model_dump(mode="json")
    moments = write_aligned(zoo, target, table, kept, alignment, about)
    write_preprocessing(target, pool_moments(layout, moments, config.standardization.kind), reference)
    write_alignment(target, alignment)


def choose_rows(table: pd.DataFrame, config: WeightsConfig) -> Bool[np.ndarray, " rows"]:
    """Tell which rows pass the epochs and filters that a configuration asks for."""
    epoch = table["epoch"]
    if isinstance(config.epochs, EpochRange):
        first, last, every = config.epochs.first, config.epochs.last, config.epochs.every
        keep = (epoch >= first) & ((epoch - first) % every == 0)
        keep &= epoch <= (epoch.max() if last is None else last)
    else:
        keep = epoch.isin(config.epochs.epochs)
    for one in config.filters:
        if one.column not in table or not pd.api.types.is_numeric_dtype(table[one.column]):
            numbers = ", ".join(table.select_dtypes("number").columns)
            raise BadInput(f"filters: got column {one.column!r}, wanted a number of the zoo: {numbers}")
        low = -np.inf if one.low is None else one.low
        high = np.inf if one.high is None else one.high
        keep &= table[one.column].between(low, high) | table["diverged"]
    return keep.to_numpy()


def limit_weights(zoo: Path, table: pd.DataFrame, config: WeightsConfig) -> Bool[np.ndarray, " rows"]:
    """Tell which rows have no weight above the limit; not-a-number is not above it."""
    if config.max_abs_weight is None:
        return np.ones(len(table), bool)
    keep = [~(np.abs(read_part(part).weights).max(1) > config.max_abs_weight) for part in list_parts(zoo)]
    return np.concatenate(keep)


def find_last(table: pd.DataFrame) -> dict[str, int]:
    """Find the row of each member's last epoch that has not diverged; a member without one is missing."""
    rows = np.flatnonzero(~table["diverged"] & table["split"].notna())
    rows = rows[np.argsort(table["epoch"].to_numpy()[rows], kind="stable")]
    return dict(zip(table["member"].to_numpy()[rows].tolist(), rows.tolist(), strict=True))


def choose_reference(table: pd.DataFrame, last: dict[str, int], config: WeightsConfig) -> int:
    """Choose the row of the network that all others are aligned to; the best train member if none is asked for.

    Raises:
        BadInput: the member is not there, or every train member has diverged.
    """
    alignment = config.alignment
    if isinstance(alignment, WeightMatching) and isinstance(alignment.reference, NamedMember):
        member = alignment.reference.member
        if member not in last:
            raise BadInput(f"alignment.reference.member: got {member!r}, wanted a member that is kept and not diverged")
        return last[member]
    rows = np.array(sorted(last.values()), dtype=np.int64)
    rows = rows[table["split"].to_numpy()[rows] == "train"]
    scores = table["val_accuracy"].to_numpy(np.float64)[rows]
    if not np.isfinite(scores).any():
        raise BadInput("alignment: no train member has a checkpoint with a validation accuracy that has not diverged")
    return int(rows[np.nanargmax(scores)])


def align_members(
    layout: Layout,
    zoo: Path,
    last: dict[str, int],
    members: tuple[str, ...],
    reference: Float32[Tensor, " weights"],
    config: WeightsConfig,
) -> Alignment:
    """Find how to reorder each member; one that has no finite checkpoint stays as it is."""
    rows = np.array([last.get(member, -1) for member in members])
    permutations = keep_places(layout, len(members), torch.device("cpu"))
    before, after = torch.full((2, len(members)), torch.nan)
    for first, checkpoints in iterate_parts(zoo):
        here = np.flatnonzero((rows >= first) & (rows < first + len(checkpoints.table)))
        weights = torch.from_numpy(checkpoints.weights[rows[here] - first])
        index = torch.from_numpy(here)
        before[index] = (weights - reference).norm(dim=1)
        if isinstance(config.alignment, WeightMatching):
            found = match_weights(layout, weights, reference, config.alignment.seed, config.alignment.max_sweeps)
            for name, order in found.items():
                permutations[name][index] = order
            weights = permute_weights(layout, weights, found)
        after[index] = (weights - reference).norm(dim=1)
        log.info("aligned %d of %d members", int(after.isfinite().sum()), len(members))
    log.info("distance to the reference: median %.3g before, %.3g after", before.nanmedian(), after.nanmedian())
    return Alignment(members, permutations, before, after)


def write_aligned(
    zoo: Path,
    target: Path,
    table: pd.DataFrame,
    kept: Bool[np.ndarray, " rows"],
    alignment: Alignment,
    about: dict[str, Any],
) -> Moments:
    """Write the kept rows with their split, reordered; return the moments of the train rows among them."""
    place = {member: i for i, member in enumerate(alignment.members)}
    moments: list[Moments] = []
    for number, (first, checkpoints) in enumerate(iterate_parts(zoo)):
        here = np.flatnonzero(kept[first : first + len(checkpoints.table)])
        if len(here) == 0:
            continue
        rows = table.take(first + here).reset_index(drop=True)
        members = torch.tensor([place[member] for member in rows["member"]])
        orders = {name: order[members] for name, order in alignment.permutations.items()}
        layout = checkpoints.layout
        weights = permute_weights(layout, torch.from_numpy(checkpoints.weights[here]), orders)
        learnt = (rows["split"] == "train").to_numpy() & ~rows["diverged"].to_numpy()
        moments.append(measure_moments(layout, weights[torch.from_numpy(learnt)]))
        write_part(target / name_part(number), Checkpoints(layout, rows, weights.numpy(), about))
    return join_moments(moments)
