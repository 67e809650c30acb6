"""Read the Small CNN Zoo: one matrix of weights, one table, one list of tensors."""

import contextlib
import csv
import gzip
import random
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from torch import Tensor

from weightspace.config import BadInput
from weightspace.imports.member import SPLIT_COLUMN, Member, Reading
from weightspace.imports.metrics import FACTOR_NAMES, INTEGERS, NUMBERS, WORDS, name_factors, name_properties
from weightspace.imports.source import Source
from weightspace.record import hash_file

FILES = ("weights.npy", "metrics.csv.gz", "layout.csv")
LAST_STEP = 86
SEED_NOTE = "the published zoos give every run the seed 42: members differ by their factors, not by seed"


@dataclass(frozen=True)
class Slot:
    """Where a tensor stands in a row of the matrix, in the source's order of axes."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]


def read_small_cnn(path: Path, scratch: contextlib.ExitStack, split_file: Path | None) -> Reading:
    """Read a Small CNN Zoo; its matrix stays on disk.

    Args:
        scratch: keeps what is unpacked from an archive until all is read.
        split_file: the order of rows that the published split goes by; None for no split.

    Raises:
        BadInput: a file is missing or cut short, or they do not fit together.
    """
    folder = path if path.is_dir() else unpack_files(path, scratch)
    for file in FILES:
        if not (folder / file).is_file():
            raise BadInput(f"{path}: has no {file}, wanted {', '.join(FILES)}")
    try:
        weights = np.load(folder / FILES[0], mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(f"{path}: weights.npy cannot be read ({error}); it may be cut short") from error
    table = read_metrics(folder / FILES[1])
    slots = read_slots(folder / FILES[2])
    width = max(slot.stop for slot in slots)
    if weights.ndim != 2 or weights.dtype != np.float32 or weights.shape != (len(table), width):
        raise BadInput(
            f"{path}: weights.npy is {weights.dtype} of shape {weights.shape}, wanted float32 of "
            f"({len(table)}, {width}), as metrics.csv.gz and layout.csv say"
        )
    usual = {*NUMBERS, *INTEGERS, *WORDS}
    extras = [name for name in table.columns if name.startswith("config.") and name_config(name) not in usual]
    numbers = tuple(name_config(name) for name in extras if pd.api.types.is_numeric_dtype(table[name]))
    words = tuple(name_config(name) for name in extras if not pd.api.types.is_numeric_dtype(table[name]))
    digests = {file: hash_file(folder / file) for file in FILES}
    notes = Counter({SEED_NOTE: 1})
    if split_file is not None:
        digests[split_file.name] = hash_file(split_file) if split_file.is_file() else ""
        sides = read_sides(split_file, table)
        table[SPLIT_COLUMN] = [sides.get(str(run)) for run in table["modeldir"]]
        words = (*words, SPLIT_COLUMN)
    members = build_members(weights, table, slots, numbers, words)
    return Reading(
        members, numbers, words, notes, lambda: {"kind": "small_cnn_zoo", "files": len(digests), "sha256": digests}
    )


def unpack_files(path: Path, scratch: contextlib.ExitStack) -> Path:
    """Copy the zoo's files out of an archive in one pass, under names of our own."""
    folder = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="small_cnn_zoo.")))
    for entry in Source(path).entries(lambda name: PurePosixPath(name).name in FILES):
        (folder / PurePosixPath(entry.name).name).write_bytes(entry.read())
    return folder


def name_config(column: str) -> str:
    """Return our name of a column with a setting."""
    key = column.removeprefix("config.")
    return FACTOR_NAMES.get(key, key)


def read_sides(path: Path, table: pd.DataFrame) -> dict[str, str]:
    """Read on which side of the published split each run is that has a last step.

    Source: Zhou et al., Permutation Equivariant Neural Functionals (arXiv 2302.14040), code of its experiments: rows in
    the order of the file, those of the last step only; the second half is test, a fifth of the first validation.

    Raises:
        BadInput: the file does not name each row once.
    """
    try:
        order = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as row numbers ({error}), wanted one in each line") from error
    if not np.array_equal(np.sort(order), np.arange(len(table))):
        raise BadInput(f"{path}: {len(order)} row numbers, wanted each of 0 to {len(table) - 1} once")
    last = table.iloc[order]
    runs = [str(run) for run in last.loc[last["step"] == LAST_STEP, "modeldir"]]
    first, test = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    random.Random(0).shuffle(first)
    train = int(0.8 * len(first))
    sides = dict.fromkeys(first[:train], "train") | dict.fromkeys(first[train:], "val")
    return sides | dict.fromkeys(test, "test")


def read_metrics(path: Path) -> pd.DataFrame:
    """Read the table of runs and steps.

    Raises:
        BadInput: it is cut short, or has not the columns of such a table.
    """
    try:
        with gzip.open(path, "rt") as file:
            table = pd.read_csv(file)
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
    ) as error:
        raise BadInput(f"{path.name}: cannot be read as packed CSV ({error}); it may be cut short") from error
    for column in ("modeldir", "step"):
        if column not in table or bool(pd.Series(table[column]).isna().any()):
            raise BadInput(f"{path.name}: column {column} is missing or has gaps, wanted it in every row")
    twice = table.duplicated(["modeldir", "step"])
    if twice.any():
        row = table[twice].iloc[0]
        raise BadInput(f"{path.name}: {row['modeldir']} has step {row['step']} twice, wanted each once")
    return table


def read_slots(path: Path) -> list[Slot]:
    """Read where each tensor stands in a row.

    Raises:
        BadInput: a line cannot be read, or its length is not that of its shape.
    """
    slots: list[Slot] = []
    with path.open(newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                shape = tuple(map(int, re.findall(r"\d+", line["shape"])))
                slot = Slot(line["varname"], int(line["start_idx"]), int(line["end_idx"]), shape)
            except (KeyError, TypeError, ValueError) as error:
                raise BadInput(
                    f"layout.csv: line {number} cannot be read, wanted varname,start_idx,end_idx,shape"
                ) from error
            if slot.stop - slot.start != int(np.prod(shape)):
                raise BadInput(f"layout.csv: line {number} has {slot.stop - slot.start} numbers for shape {shape}")
            slots.append(slot)
    if not slots:
        raise BadInput("layout.csv: is empty, wanted a line for each tensor")
    return slots


def build_members(
    weights: np.ndarray, table: pd.DataFrame, slots: list[Slot], numbers: tuple[str, ...], words: tuple[str, ...]
) -> Iterator[Member]:
    """Yield the runs of the zoo; the rows of one run stay together."""
    measured = [column for column in table.columns if not column.startswith("config.") and column != SPLIT_COLUMN]
    settings = [column for column in table.columns if column.startswith("config.") or column == SPLIT_COLUMN]
    for modeldir, rows in table.groupby("modeldir", sort=False).indices.items():
        run = str(modeldir)
        part = table.iloc[rows]
        steps = [int(step) for step in part["step"]]
        order = np.argsort(steps)
        checkpoints = {steps[i]: partial(read_row, weights, int(rows[i]), slots) for i in order}
        records = part[measured].to_dict("records")
        metrics = {step: name_properties(run, row) for step, row in zip(steps, records, strict=True)}
        said = {name_config(column): part[column].iloc[0] for column in settings}
        factors = name_factors(run, said, numbers) | {
            name: str(said[name]) for name in words if said[name] == said[name]
        }
        yield Member(run, checkpoints, metrics, factors, "chain")


def read_row(weights: Float32[np.ndarray, "rows weights"], row: int, slots: list[Slot]) -> dict[str, Tensor]:
    """Read a checkpoint as named tensors in our order of axes: outputs first, weight before bias."""
    line = np.array(weights[row])
    found: dict[str, dict[str, Tensor]] = {}
    outputs = 0
    for slot in slots:
        stem = slot.name.rpartition("/")[0]
        values = torch.from_numpy(line[slot.start : slot.stop]).reshape(slot.shape)
        tensors = found.setdefault(stem, {})
        if len(slot.shape) > 1:
            tensors["weight"] = turn_kernel(values, outputs)
            outputs = slot.shape[-1]
        else:
            tensors["bias"] = values
    return {f"{stem}.{name}": tensor for stem, tensors in found.items() for name, tensor in tensors.items()}


def turn_kernel(values: Tensor, outputs: int) -> Tensor:
    """Turn a kernel from (height, width, in, out) or (in, out) to outputs first.

    A dense kernel after a convolution without pooling over the image counts channels last; ours counts them first.

    Args:
        outputs: of the layer before; 0 for the first.
    """
    if values.ndim == 4:
        return values.permute(3, 2, 0, 1).contiguous()
    spread = (
        values.reshape(-1, outputs, values.shape[1]) if outputs and values.shape[0] % outputs == 0 else values[None]
    )
    return spread.permute(2, 1, 0).reshape(values.shape[1], values.shape[0]).contiguous()
