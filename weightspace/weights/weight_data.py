"""The weight data set on disk: checkpoints with their split, and what learning from them needs."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from weightspace.config import BadInput
from weightspace.store import Checkpoints, read_checkpoints, write_parts
from weightspace.weights.permute import Permutations
from weightspace.weights.statistics import Statistics

# The underscore hides them from readers of the folder as a Parquet table.
STATISTICS_NAME = "_statistics.safetensors"
REFERENCE_NAME = "_reference.safetensors"
ALIGNMENT_NAME = "_alignment.safetensors"


@dataclass(frozen=True)
class WeightData:
    """Checkpoints in canonical form, split by member, with the statistics of the train members."""

    checkpoints: Checkpoints
    """Its table has `split`: `train`, `val` or `test`."""
    statistics: Statistics
    reference: Float32[Tensor, " weights"]
    """What members were aligned to."""

    def rows(self, split: str) -> Int64[np.ndarray, " rows"]:
        """Number the rows of one side of the split that can be learnt from: those that have not diverged."""
        table = self.checkpoints.table
        return np.flatnonzero((table["split"] == split) & ~table["diverged"])


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


def write_weight_data(folder: Path, data: WeightData) -> None:
    """Write a weight data set into a folder that exists."""
    write_parts(folder, data.checkpoints)
    write_preprocessing(folder, data.statistics, data.reference)


def write_preprocessing(folder: Path, statistics: Statistics, reference: Float32[Tensor, " weights"]) -> None:
    """Write what goes with the checkpoints of a weight data set, and with every model that learns from it."""
    save_file({"mean": statistics.mean.contiguous(), "std": statistics.std.contiguous()}, folder / STATISTICS_NAME)
    save_file({"reference": reference.contiguous()}, folder / REFERENCE_NAME)


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


def read_weight_data(folder: Path) -> WeightData:
    """Read a weight data set.

    Raises:
        BadInput: a file is missing or cannot be read.
    """
    statistics = read_tensors(folder / STATISTICS_NAME)
    reference = read_tensors(folder / REFERENCE_NAME)["reference"]
    checkpoints = read_checkpoints(folder)
    if "split" not in checkpoints.table:
        raise BadInput(f"{folder}: its table has no column `split`, wanted a weight data set")
    return WeightData(checkpoints, Statistics(statistics["mean"], statistics["std"]), reference)


def write_alignment(folder: Path, alignment: Alignment) -> None:
    """Write how members were aligned into a folder that exists."""
    tensors = {name: order.int() for name, order in alignment.permutations.items()}
    tensors |= {"distance_before": alignment.before, "distance_after": alignment.after}
    metadata = {"members": json.dumps(alignment.members)}
    save_file(tensors, folder / ALIGNMENT_NAME, metadata)


def read_alignment(folder: Path) -> Alignment:
    """Read how the members of a weight data set were aligned.

    Raises:
        BadInput: the file is missing or cut short.
    """
    tensors = read_tensors(folder / ALIGNMENT_NAME)
    with safe_open(folder / ALIGNMENT_NAME, "pt") as file:
        members = tuple(json.loads(file.metadata()["members"]))
    before, after = tensors.pop("distance_before"), tensors.pop("distance_after")
    permutations = {name: order.to(torch.int64) for name, order in tensors.items()}
    return Alignment(members, permutations, before, after)
