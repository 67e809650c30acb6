"""Read any folder of state dicts, with a table of what is known of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa

from weightspace.config import BadInput
from weightspace.imports.config import Folder, Table
from weightspace.imports.member import Member, Reading
from weightspace.imports.metrics import (
    FACTOR_NAMES,
    GAP,
    INTEGERS,
    NUMBERS,
    PROPERTIES,
    WORDS,
    name_factors,
    name_properties,
    name_property,
)
from weightspace.imports.source import Source
from weightspace.imports.state import read_state

ENDINGS = (".safetensors", ".pt", ".pth")
PLACING = ("member", "epoch")
TAKEN = ("weights", "diverged")


def read_folder(source: Source, config: Folder, root: Path) -> Reading:
    """Read a folder of state dicts, each a checkpoint.

    Raises:
        BadInput: the table cannot be read, or no file is in it.
    """
    rows, numbers, words = read_table(root / config.table.path, config.table) if config.table else (None, (), ())
    notes: Counter[str] = Counter()

    def read_members() -> Iterator[Member]:
        seen: dict[str, str] = {}
        for entry in source.entries(lambda name: name.endswith(ENDINGS)):
            stem = PurePosixPath(entry.name).stem
            if stem in seen:
                raise BadInput(f"{source.path}: {seen[stem]} and {entry.name} have one stem, wanted each name once")
            seen[stem] = entry.name
            row = (rows or {}).get(stem)
            if row is None and rows is not None:
                notes["files without a row in the table; nothing is known of them but their weights"] += 1
            place = {"member": stem, "epoch": 0} | dict(row or {})
            epoch = read_epoch(stem, place["epoch"])
            load = partial(lambda entry: read_state(entry.name, entry.read(), notes), entry)
            metrics = {epoch: name_properties(stem, row, numbers)} if row is not None else {}
            factors = name_factors(stem, row or {}, numbers) | {
                name: str(row[name]) for name in words if row and name in row
            }
            yield Member(str(place["member"]), {epoch: load}, metrics, factors, config.wiring)
        if rows is not None and not seen.keys() & rows.keys():
            raise BadInput(
                f"{source.path}: no file is called as a row of the table says; wanted stems such as {next(iter(rows))}"
            )
        left = len(rows.keys() - seen.keys()) if rows is not None else 0
        notes.update({"rows of the table without a file": left} if left else {})

    return Reading(read_members(), numbers, words, notes, source.describe)


def read_epoch(stem: str, value: Any) -> int:
    """Read the epoch of a checkpoint.

    Raises:
        BadInput: it is no whole number.
    """
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{stem}: its epoch is {value!r}, wanted a whole number") from error
    if whole != float(value) or whole < 0:
        raise BadInput(f"{stem}: its epoch is {value!r}, wanted a whole number from 0")
    return whole


def read_table(path: Path, config: Table) -> tuple[dict[str, dict[str, Any]], tuple[str, ...], tuple[str, ...]]:
    """Read a table; gives its rows by file, and the names of other columns with numbers and with text.

    Raises:
        BadInput: it cannot be read, lacks the column with names, or has a name or checkpoint twice.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted a table of properties")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path}: cannot be read as CSV or Parquet ({reason}); it may be cut short") from error
    if config.key not in table:
        raise BadInput(f"{path}: has no column {config.key!r}, wanted one of {', '.join(map(str, table.columns))}")
    place = [column for column in PLACING if column in table]
    for columns in ([config.key], place):
        twice = table.duplicated(columns) if columns else pd.Series(False, index=table.index)
        if twice.any():
            raise BadInput(f"{path}: {table.loc[twice, columns].iloc[0].to_dict()} is there twice, wanted each once")
    usual = {*PLACING, *TAKEN, config.key}
    extras = [column for column in table if not is_known(str(column)) and column not in usual]
    numbers = tuple(str(column) for column in extras if pd.api.types.is_numeric_dtype(table[column]))
    words = tuple(str(column) for column in extras if str(column) not in numbers)
    keys = table[config.key].astype(str)
    records = table.drop(columns=[column for column in TAKEN if column in table]).to_dict("records")
    rows = {str(key): drop_gaps(record) for key, record in zip(keys, records, strict=True)}
    return rows, numbers, words


def is_known(column: str) -> bool:
    """Tell whether a column is a property or factor by our names or a foreign one."""
    ours = {*PROPERTIES, GAP, *NUMBERS, *INTEGERS, *WORDS, *FACTOR_NAMES}
    return column in ours or name_property(column) is not None


def drop_gaps(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {str(key): value for key, value in row.items() if not pd.isna(value)}
