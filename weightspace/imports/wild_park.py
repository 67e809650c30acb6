"""Read the CNN Wild Park, whose checkpoints hold weights, configuration and metrics together."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from weightspace.config import BadInput
from weightspace.imports.config import WildPark
from weightspace.imports.member import SPLIT_COLUMN, Member, Reading
from weightspace.imports.metrics import ITERATION, name_properties
from weightspace.imports.runs import group_runs, one_of, place_ray, read_telling
from weightspace.imports.source import Entry, Source
from weightspace.imports.state import clean_state, unwrap_state
from weightspace.imports.unpickle import Stub, load_restricted

STUBS = ("omegaconf", "experiments", "typing", "ray")


def read_wild_park(source: Source, config: WildPark, root: Path) -> Reading:
    """Read the CNN Wild Park; every checkpoint holds its own metrics and the network's configuration."""
    notes: Counter[str] = Counter()
    sides = read_split(root / config.split_file) if config.split_file is not None else {}

    def read_members() -> Iterator[Member]:
        for name, run in group_runs(source, partial(place_ray, file="checkpoint.pt"), notes):
            found = {n: read_wild(one_of(files), notes) for n, files in sorted(run.checkpoints.items())}
            _, factors = read_telling(name, run, ())
            metrics = {wild.iteration: wild.properties for wild in found.values()}
            first = next(iter(found.values()))
            checkpoints = {number: partial(dict, wild.state) for number, wild in found.items()}
            wiring = "unknown" if first.has_residuals else "chain"
            side = {SPLIT_COLUMN: sides[run_name(name)]} if run_name(name) in sides else {}
            notes.update({"members that the split file does not name": 1} if sides and not side else {})
            yield Member(name, checkpoints, metrics, {**factors, **first.factors, **side}, wiring, padded=True)

    words = ("activations", *((SPLIT_COLUMN,) if sides else ()))
    return Reading(read_members(), words=words, notes=notes, describe=source.describe)


def run_name(path: str) -> str:
    """Name a run by its own folder."""
    return PurePosixPath(path).name


def read_split(path: Path) -> dict[str, str]:
    """Read the published split: the side of each run, by the name of its folder.

    Raises:
        BadInput: it cannot be read, or puts a run on two sides.
    """
    try:
        found = json.loads(path.read_bytes())
        pairs = [(run_name(str(PurePosixPath(p).parent.parent)), side) for side in found for p in found[side]["path"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{path}: cannot be read as a split ({error}), wanted JSON with paths under each side"
        ) from error
    sides = dict(pairs)
    for run, side in pairs:
        if sides[run] != side:
            raise BadInput(f"{path}: puts {run} on two sides, {side} and {sides[run]}, wanted one")
    return sides


@dataclass(frozen=True)
class WildCheckpoint:
    """A checkpoint of the Wild Park."""

    iteration: int
    state: dict[str, Tensor]
    properties: dict[str, float]
    factors: dict[str, Any]
    has_residuals: bool
    """Also where the configuration does not say."""


def read_wild(entry: Entry, notes: Counter[str]) -> WildCheckpoint:
    """Read a checkpoint of the Wild Park.

    Raises:
        BadInput: it is damaged, names what it may not, or has no iteration.
    """
    found = load_restricted(entry.name, io.BytesIO(entry.read()), STUBS)
    if not isinstance(found, Mapping) or not isinstance(found.get("iteration"), int):
        raise BadInput(f"{entry.name}: holds no `iteration`, wanted a checkpoint of the Wild Park")
    said = plain_value(found.get("config"))
    said = said if isinstance(said, Mapping) else {}
    result = plain_value(found.get("last_result"))
    result = result if isinstance(result, Mapping) else {}
    activations = [str(word) for word in said.get("activation", ())]
    factors: dict[str, Any] = {"activations": " ".join(activations)} if activations else {}
    if len(set(activations)) == 1:
        factors["activation"] = activations[0]
    return WildCheckpoint(
        iteration=int(result.get(ITERATION, found["iteration"])),
        state=clean_state(entry.name, unwrap_state(entry.name, found), notes),
        properties=name_properties(entry.name, result),
        factors=factors,
        has_residuals=any(int(source) >= 0 for source in said["residual"]) if said.get("residual") else True,
    )


def plain_value(value: Any) -> Any:
    """Turn stubs of configurations into plain values: mappings, lists and what they hold."""
    if isinstance(value, Stub):
        attributes = value.__dict__
        inner = [attributes[key] for key in ("_content", "_val") if key in attributes]
        return plain_value(inner[0]) if inner else {k: plain_value(v) for k, v in attributes.items() if k != "args"}
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value
