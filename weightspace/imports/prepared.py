"""Read prepared data sets of the model zoos: pickled objects that hold many checkpoints."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from weightspace.config import BadInput
from weightspace.imports.member import SPLIT_COLUMN, Member, Reading
from weightspace.imports.metrics import ITERATION, name_factors, name_properties
from weightspace.imports.state import clean_state
from weightspace.imports.unpickle import Stub, load_restricted
from weightspace.record import hash_file

STUBS = ("checkpoints_to_datasets", "model_definitions", "torch.utils.data")
SPLITS = {"trainset": "train", "valset": "val", "testset": "test"}
DROPPED = (
    "networks with not-a-number or a weight above 5 were left out when this data set was prepared; no list of them"
)


@dataclass(frozen=True)
class PreparedRow:
    """One checkpoint of a prepared data set."""

    epoch: int
    tensors: Mapping[str, Any]
    said: Mapping[str, Any]
    """Properties and factors, by the source's names."""
    split: str


def read_prepared(path: Path) -> Reading:
    """Read a prepared data set; the split that it was published with becomes a column.

    Raises:
        BadInput: it is damaged, is no such data set, or names what it may not.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted a prepared data set")
    found = load_restricted(path.name, path, STUBS)
    sets = {name: found.get(name) for name in SPLITS} if isinstance(found, dict) else {}
    rows: dict[str, list[PreparedRow]] = {}
    for name, part in sets.items():
        if part is not None:
            collect_rows(f"{path.name}: {name}", part, SPLITS[name], rows)
    if not rows:
        raise BadInput(f"{path}: holds no checkpoints in trainset, valset or testset, wanted a prepared data set")
    notes = Counter({DROPPED: 1})
    offsets = {int(row.said[ITERATION]) - row.epoch for part in rows.values() for row in part if ITERATION in row.said}
    if offsets:
        notes[f"{ITERATION} less epoch is {', '.join(map(str, sorted(offsets)))}; properties were joined by row"] += 1

    def describe() -> dict[str, Any]:
        return {"kind": "file", "files": 1, "sha256": hash_file(path)}

    return Reading(build_members(rows, notes), words=(SPLIT_COLUMN,), notes=notes, describe=describe)


def collect_rows(where: str, part: Any, split: str, rows: dict[str, list[PreparedRow]]) -> None:
    """Add the checkpoints of one pickled object to those of their members.

    Raises:
        BadInput: it has not the attributes of such an object, or these differ in length.
    """
    attributes = part.__dict__ if isinstance(part, Stub) else {}
    data, paths, epochs = (attributes.get(name) for name in ("data_in", "paths", "epochs"))
    if not isinstance(data, list) or not isinstance(paths, list) or not isinstance(epochs, list):
        raise BadInput(f"{where}: has no lists data_in, paths and epochs, wanted an object with checkpoints")
    said = attributes.get("properties") or {}
    lengths = {"paths": len(paths), "epochs": len(epochs)} | {key: len(values) for key, values in said.items()}
    for name, length in lengths.items():
        if length != len(data):
            raise BadInput(f"{where}: {length} {name} for {len(data)} checkpoints, wanted one each")
    for number, tensors in enumerate(data):
        if not isinstance(tensors, Mapping):
            raise BadInput(f"{where}: checkpoint {number} is {type(tensors).__name__}, wanted named tensors")
        row = {key: values[number] for key, values in said.items()}
        rows.setdefault(str(paths[number]), []).append(PreparedRow(int(epochs[number]), tensors, row, split))


def build_members(rows: Mapping[str, list[PreparedRow]], notes: Counter[str]) -> Iterator[Member]:
    """Yield the members of a prepared data set.

    Raises:
        BadInput: a member has an epoch twice, or stands on two sides of the split.
    """
    for path, part in rows.items():
        name = PurePosixPath(path).name
        if len({row.epoch for row in part}) < len(part) or len({row.split for row in part}) > 1:
            raise BadInput(f"{name}: has an epoch twice or stands on two sides of the split, wanted each once")
        part = sorted(part, key=lambda row: row.epoch)
        checkpoints = {row.epoch: partial(clean_state, name, row.tensors, notes) for row in part}
        metrics = {row.epoch: name_properties(name, row.said) for row in part}
        factors = name_factors(name, part[0].said) | {SPLIT_COLUMN: part[0].split}
        yield Member(path, checkpoints, metrics, factors, "by_name")
