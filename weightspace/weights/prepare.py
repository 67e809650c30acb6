"""Make a weight data set from zoos, one part at a time."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.networks import Architecture, build_layout, read_chain
from weightspace.store import Checkpoints, name_part, write_part
from weightspace.weights.align import measure_distance
from weightspace.weights.canonical import CanonicalForm, Symmetry, sort_units, turn_signs
from weightspace.weights.canonical_config import Sort
from weightspace.weights.config import EVERY_ZOO, NoAlignment, WeightMatching, WeightsConfig
from weightspace.weights.permute import Permutations, keep_places, permute_weights
from weightspace.weights.reference import choose_reference, find_last
from weightspace.weights.select import choose_rows, limit_weights
from weightspace.weights.shards import match_part
from weightspace.weights.split import split_members
from weightspace.weights.statistics import Moments, join_moments, measure_moments, pool_moments
from weightspace.weights.weight_data import Alignment, write_alignment, write_preprocessing
from weightspace.weights.zoos import Networks, find_originals, gather_zoos

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Which checkpoints make a weight data set, and where it goes."""

    config: WeightsConfig
    table: pd.DataFrame
    """All checkpoints of all zoos, with the side of each member that is kept."""
    kept: Bool[np.ndarray, " rows"]
    last: dict[str, int]
    """Row of each member's last epoch that has not diverged."""
    target: Path
    work: Path
    ragged: bool
    """Whether there are several layouts."""
    numbers: Iterator[int]
    """Of the parts that are still to be written."""

    def list_activations(self, rows: Int64[np.ndarray, " rows"]) -> list[object]:
        """Say for some rows which activation they have, as far as the zoos tell."""
        if "activation" not in self.table:
            return [None] * len(rows)
        return self.table["activation"].iloc[rows].tolist()


def prepare_weight_data(zoos: Mapping[str, Path], target: Path, config: WeightsConfig, work: Path) -> None:
    """Filter, split, align and measure the checkpoints of zoos; write the data set into a folder that exists.

    Reads the zoos three times, one part at a time, so that memory does not grow with their size.

    Args:
        zoos: folder of each zoo, by its name.
        work: folder in which the alignment of parts that are done is kept, for when this is killed and run again.

    Raises:
        BadInput: the configuration names what the zoos do not have, or too few members are left.
    """
    table, networks = gather_zoos(zoos, config.zoo == EVERY_ZOO)
    check_members(table, networks)
    kept = choose_rows(table, config) & limit_weights(networks, len(table), config.max_abs_weight)
    originals = find_originals(table, networks)
    sides = split_members(table.loc[kept], dict.fromkeys(table["member"]), config.split, originals)
    table["split"] = [sides.get(member) for member in table["member"]]
    kept &= table["split"].notna().to_numpy()
    chosen = [group for group in networks if kept[group.rows].any()]
    plan = Plan(config, table, kept, find_last(table), target, work, len(chosen) > 1, itertools.count())
    for group in chosen:
        prepare_networks(plan, group)


def check_members(table: pd.DataFrame, networks: list[Networks]) -> None:
    """Make sure that all checkpoints of a member have one layout.

    Raises:
        BadInput: those of one have not.
    """
    seen: dict[str, str] = {}
    for group in networks:
        for member in dict.fromkeys(table["member"].iloc[group.rows]):
            if seen.setdefault(member, group.name) != group.name:
                raise BadInput(f"zoo: member {member!r} is {seen[member]} and {group.name}, wanted one architecture")


def prepare_networks(plan: Plan, group: Networks) -> None:
    """Align, write and measure the networks of one layout."""
    check_alignment(group, plan.config)
    form = CanonicalForm(group.layout, find_architecture(group, plan.config), plan.config.canonical)
    reference = read_reference(plan, group, form)
    alignment = align_members(plan, group, form, reference)
    moments = write_aligned(plan, group, form, alignment)
    name = group.name if plan.ragged else None
    statistics = pool_moments(group.layout, moments, plan.config.standardization.kind)
    write_preprocessing(plan.target, statistics, reference, name)
    write_alignment(plan.target, alignment, name)


def find_architecture(group: Networks, config: WeightsConfig) -> Architecture | None:
    """Find the architecture of networks, where that must be known; None if a zoo does not tell, or zoos differ."""
    if not (config.canonical.scale or config.canonical.orient):
        return None
    architecture = read_chain(group.about.get("architecture"))
    return architecture if architecture is not None and build_layout(architecture) == group.layout else None


def check_alignment(group: Networks, config: WeightsConfig) -> None:
    """Refuse to align modules that a user wrote.

    Raises:
        BadInput: that is asked for.
    """
    said, alignment = group.about.get("architecture") or {}, config.alignment
    if said.get("kind") == "module" and not isinstance(alignment, NoAlignment):
        raise BadInput(
            f"alignment: got {alignment.kind} for {group.name}, a module that a user wrote: which of its units feed "
            "which is not known; wanted kind none"
        )


def read_reference(plan: Plan, group: Networks, form: CanonicalForm) -> Float32[Tensor, " weights"]:
    """Read the network that all others of a layout are aligned to, in its canonical form."""
    alignment, layout = plan.config.alignment, group.layout
    rows = np.array([choose_reference(plan.table, plan.last, alignment, group, plan.ragged)])
    weights = next(torch.from_numpy(some) for _, some in group.read_parts(rows) if len(some))
    weights = form.scale(weights, plan.list_activations(rows))
    weights = turn_signs(layout, weights, form.find_signs(weights, plan.list_activations(rows)))
    if isinstance(alignment, Sort):
        weights = permute_weights(layout, weights, sort_units(layout, weights, alignment.key))
    return weights[0]


def align_members(
    plan: Plan, group: Networks, form: CanonicalForm, reference: Float32[Tensor, " weights"]
) -> Alignment:
    """Find how to bring each member to its form; one that has no finite checkpoint stays as it is."""
    layout = group.layout
    members = tuple(dict.fromkeys(plan.table["member"].iloc[group.rows][plan.kept[group.rows]]))
    places = [place for place, member in enumerate(members) if member in plan.last]
    places.sort(key=lambda place: plan.last[members[place]])
    rows = np.array([plan.last[members[place]] for place in places], np.int64)
    symmetry = Symmetry(keep_places(layout, len(members), torch.device("cpu")), {})
    before, after = torch.full((2, len(members)), torch.nan)
    for here, some in group.read_parts(rows):
        weights, index = torch.from_numpy(some), torch.tensor(places[here], dtype=torch.int64)
        before[index] = measure_distance(layout, weights, reference)
        weights = form.scale(weights, plan.list_activations(rows[here]))
        signs = form.find_signs(weights, plan.list_activations(rows[here]))
        weights = turn_signs(layout, weights, signs)
        orders = find_orders(plan, layout, weights, reference)
        symmetry.put(index, Symmetry(orders, signs))
        after[index] = measure_distance(layout, permute_weights(layout, weights, orders), reference)
        log.info("%s: aligned %d of %d members", group.name, int(after.isfinite().sum()), len(members))
    log.info("distance to the reference: median %.3g before, %.3g after", before.nanmedian(), after.nanmedian())
    return Alignment(members, symmetry.orders, before, after, symmetry.signs)


def find_orders(
    plan: Plan, layout: Layout, weights: Float32[Tensor, "members weights"], reference: Float32[Tensor, " weights"]
) -> Permutations:
    """Find how to reorder the units of some members as the configuration asks."""
    match plan.config.alignment:
        case WeightMatching() as matching:
            return match_part(layout, weights, reference, matching, plan.work)
        case Sort() as sort:
            return sort_units(layout, weights, sort.key)
        case NoAlignment():
            return keep_places(layout, len(weights), weights.device)


def write_aligned(plan: Plan, group: Networks, form: CanonicalForm, alignment: Alignment) -> Moments:
    """Write the kept rows with their split, in canonical form; return the moments of the train rows among them."""
    layout, place = group.layout, {member: i for i, member in enumerate(alignment.members)}
    symmetry = Symmetry(alignment.permutations, alignment.signs)
    about = group.about | {"weights": plan.config.model_dump(mode="json")}
    if plan.ragged:
        about["network"] = group.name
    kept = group.first + np.flatnonzero(plan.kept[group.rows])
    moments: list[Moments] = []
    for number, (here, some) in zip(plan.numbers, group.read_parts(kept), strict=False):
        if len(some) == 0:
            continue
        rows = plan.table.take(kept[here]).reset_index(drop=True)
        members = torch.tensor([place[member] for member in rows["member"]])
        scaled = form.scale(torch.from_numpy(some), plan.list_activations(kept[here]))
        weights = symmetry.take(members).apply(layout, scaled)
        learnt = (rows["split"] == "train").to_numpy() & ~rows["diverged"].to_numpy()
        moments.append(measure_moments(layout, weights[torch.from_numpy(learnt)]))
        write_part(plan.target / name_part(number), Checkpoints(layout, rows, weights.numpy(), about), plan.ragged)
    found = join_moments(moments)
    if len(found.mean) == 0:
        raise BadInput(f"split: no train member of {group.name} has a checkpoint that has not diverged, wanted some")
    return found
