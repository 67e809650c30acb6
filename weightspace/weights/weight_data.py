"""The weight data set on disk: checkpoints with their split, and what learning from them needs."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int8, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.schema import SIDES
from weightspace.store import Checkpoints, list_layouts, read_checkpoints, write_parts
from weightspace.weights.permute import Permutations
from weightspace.weights.statistics import Statistics

# The underscore hides them from readers of the folder as a Parquet table.
STATISTICS_NAME = "_statistics.safetensors"
REFERENCE_NAME = "_reference.safetensors"
ALIGNMENT_NAME = "_alignment.safetensors"
SIGNS = "signs."


@dataclass(frozen=True)
class WeightData:
    """Checkpoints in canonical form, split by member, with the statistics of the train members."""

    checkpoints: Checkpoints
    """Its table has `split`: `train`, `val` or `test`."""
    statistics: Statistics
    reference: Float32[Tensor, " weights"]
    """What members were aligned to."""

    @property
    def layout(self) -> Layout:
        """Where each tensor lies in the weight vectors."""
        return self.checkpoints.layout

    @property
    def about(self) -> dict[str, Any]:
        """What all checkpoints share."""
        return self.checkpoints.about

    @property
    def table(self) -> pd.DataFrame:
        """One row a checkpoint: everything but the weights."""
        return self.checkpoints.table

    def rows(self, split: str) -> Int64[np.ndarray, " rows"]:
        """Number the rows of one side of the split that can be learnt from: those that have not diverged."""
        return find_rows(self.table, split)

    def read(self, rows: Int64[np.ndarray, " rows"]) -> Float32[Tensor, "rows weights"]:
        """Return the weights of some rows, in any order."""
        return torch.from_numpy(self.checkpoints.weights[rows])


@dataclass(frozen=True)
class Alignment:
    """How each member's units were reordered."""

    members: tuple[str, ...]
    permutations: Permutations
    """One row a member."""
    before: Float32[Tensor, " members"]
    """L2 distance to the reference at the member's last epoch as it was trained; not a number if it diverged."""
    after: Float32[Tensor, " members"]
    """The same after the reordering."""
    signs: dict[str, Int8[Tensor, "members _"]] = field(default_factory=dict)
    """1 or -1 for each unit of a permutation, in the order it had before; of a name that is missing all are 1."""


def find_rows(table: pd.DataFrame, split: str) -> Int64[np.ndarray, " rows"]:
    """Number the rows of one side of the split that can be learnt from: those that have not diverged."""
    return np.flatnonzero((table["split"] == split) & ~table["diverged"])


def place_file(folder: Path, name: str, layout: str | None) -> Path:
    """Say where a file of a weight data set is: that of one layout by name, or of the only one there is."""
    return folder / (name if layout is None else f"{Path(name).stem}.{layout}.safetensors")


def write_weight_data(folder: Path, data: WeightData) -> None:
    """Write a weight data set of one layout into a folder that exists."""
    write_parts(folder, data.checkpoints)
    write_preprocessing(folder, data.statistics, data.reference)


def write_preprocessing(
    folder: Path, statistics: Statistics, reference: Float32[Tensor, " weights"], layout: str | None = None
) -> None:
    """Write what goes with the checkpoints of a weight data set, and with every model that learns from it.

    Args:
        layout: name of the layout it is for, where the data set has several.
    """
    save_file(
        {"mean": statistics.mean.contiguous(), "std": statistics.std.contiguous()},
        place_file(folder, STATISTICS_NAME, layout),
    )
    save_file({"reference": reference.contiguous()}, place_file(folder, REFERENCE_NAME, layout))


def read_preprocessing(folder: Path, layout: str | None = None) -> tuple[Statistics, Float32[Tensor, " weights"]]:
    """Read what `write_preprocessing` wrote.

    Raises:
        BadInput: a file is missing or cut short.
    """
    statistics = read_tensors(place_file(folder, STATISTICS_NAME, layout))
    reference = read_tensors(place_file(folder, REFERENCE_NAME, layout))["reference"]
    return Statistics(statistics["mean"], statistics["std"]), reference


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        BadInput: it is missing or cut short.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted a part of a weight data set; run the weights stage that makes it")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error


def choose_layout(folder: Path, layout: str | None) -> str | None:
    """Say by which name of a layout the files of a data set go: none where it has but one layout."""
    return None if layout is None or len(list_layouts(folder)) == 1 else layout


def read_weight_data(folder: Path, layout: str | None = None) -> WeightData:
    """Read a weight data set into memory; `open_weight_data` does not need it to fit.

    Args:
        layout: name of the layout to read; None where the data set has but one.

    Raises:
        BadInput: a file is missing or cannot be read, or there are several layouts and none is named.
    """
    checkpoints = read_checkpoints(folder, layout=layout)
    check_sides(folder, checkpoints.table)
    return WeightData(checkpoints, *read_preprocessing(folder, choose_layout(folder, layout)))


def check_sides(folder: Path, table: pd.DataFrame) -> None:
    """Make sure that every checkpoint is on a side of the split.

    Raises:
        BadInput: one is not.
    """
    if "split" not in table:
        raise BadInput(f"{folder}: its table has no column `split`, wanted a weight data set")
    others = table.loc[~table["split"].isin(SIDES), "split"].tolist()
    if others:
        raise BadInput(f"{folder}: `split` is {others[0]!r} in {len(others)} rows, wanted {', '.join(SIDES)}")


def write_alignment(folder: Path, alignment: Alignment, layout: str | None = None) -> None:
    """Write how members were aligned into a folder that exists.

    Args:
        layout: name of the layout of these members, where the data set has several.
    """
    save_alignment(place_file(folder, ALIGNMENT_NAME, layout), alignment)


def save_alignment(path: Path, alignment: Alignment) -> None:
    """Write how members were aligned as one file."""
    tensors = {name: order.int() for name, order in alignment.permutations.items()}
    tensors |= {f"{SIGNS}{name}": sign for name, sign in alignment.signs.items()}
    tensors |= {"distance_before": alignment.before, "distance_after": alignment.after}
    metadata = {"members": json.dumps(alignment.members)}
    save_file(tensors, path, metadata)


def read_alignment(folder: Path, layout: str | None = None) -> Alignment:
    """Read how the members of a weight data set were aligned.

    Args:
        layout: name of the layout of the members; None where the data set has but one.

    Raises:
        BadInput: the file is missing or cut short.
    """
    return load_alignment(place_file(folder, ALIGNMENT_NAME, choose_layout(folder, layout)))


def load_alignment(path: Path) -> Alignment:
    """Read what `save_alignment` wrote.

    Raises:
        BadInput: it is missing or cut short.
    """
    tensors = read_tensors(path)
    with safe_open(path, "pt") as file:
        members = tuple(json.loads(file.metadata()["members"]))
    before, after = tensors.pop("distance_before"), tensors.pop("distance_after")
    signs = {name.removeprefix(SIGNS): tensors.pop(name) for name in list(tensors) if name.startswith(SIGNS)}
    permutations = {name: order.to(torch.int64) for name, order in tensors.items()}
    return Alignment(members, permutations, before, after, signs)
