"""Read all outputs of a study that a report is about, each checked against its record."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Float64

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.record import RECORD_NAME, Record, read_record
from weightspace.report.config import ReportConfig, Sweep
from weightspace.store import WEIGHTS, list_layouts, read_table

STAGES = ("images", "zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer")
CHECKPOINT_STAGES = ("zoo", "weights")
LONG_COLUMNS = (WEIGHTS, "tokens")
"""Columns that no figure needs and that would fill the memory."""
LONG_TABLES = ("samples.parquet",)
KEPT_NAME = "kept.parquet"
UNSEEN_ONLY = ("predictions.parquet",)
"""Tables of which only the rows of unseen members are shown."""


@dataclass(frozen=True)
class Entry:
    """One output of a stage."""

    record: Record
    tables: dict[str, pd.DataFrame]
    """By file name without its ending; of a zoo or weight data set, `checkpoints`."""
    about: dict[str, Any]
    """What the Parquet parts say of all checkpoints; else the content of `config.json`; else empty."""
    layouts: tuple[Layout, ...] = ()
    """Of the checkpoints, where the output holds any."""

    @property
    def name(self) -> str:
        """Name it as the study does."""
        return self.record.name

    def table(self, name: str) -> pd.DataFrame:
        """Return a table that must be there.

        Raises:
            BadInput: the output has none of that name.
        """
        if name not in self.tables:
            raise BadInput(f"{self.record.stage}/{self.name}: no table {name!r} in it, wanted one; run the stage again")
        return self.tables[name]


@dataclass(frozen=True)
class Study:
    """All outputs that a report shows; of each stage the first entry is the one that the short keys mean."""

    entries: dict[str, tuple[Entry, ...]]
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    swept: dict[str, Entry] = field(default_factory=dict)
    """Embeddings that sweeps compare, by name, with the table `kept` only."""

    def of(self, stage: str) -> tuple[Entry, ...]:
        """Return the entries of a stage, none if it was not run."""
        return self.entries.get(stage, ())

    def first(self, stage: str) -> Entry | None:
        """Return the entry of a stage that the short keys mean."""
        return next(iter(self.of(stage)), None)

    def using(self, stage: str, source: str, name: str) -> tuple[Entry, ...]:
        """Return the entries of a stage that were made from the entry `name` of the stage `source`."""
        return tuple(entry for entry in self.of(stage) if entry.record.config.get(source) == name)

    @property
    def records(self) -> dict[str, Record]:
        """Return the record of every output, by `stage/name`."""
        entries = [*(e for stage in STAGES for e in self.of(stage)), *self.swept.values()]
        return {f"{e.record.stage}/{e.name}": e.record for e in entries}


def read_study(data: Path, config: ReportConfig) -> Study:
    """Read the outputs below `data`.

    Raises:
        BadInput: there are none, a named one is not there, or one is damaged.
    """
    wanted: dict[str, tuple[str, ...]] = {**config.show}
    entries = {}
    for stage in STAGES:
        names = list_entries(data / stage, wanted.get(stage))
        entries[stage] = tuple(read_entry(data / stage / name, stage) for name in names)
    swept = read_swept(data / "embeddings", config)
    if not any(entries.values()) and not swept:
        raise BadInput(f"{data}: no outputs there, wanted some to report; run the other stages first")
    return Study(entries, config.sweeps, swept)


def read_swept(folder: Path, config: ReportConfig) -> dict[str, Entry]:
    """Read what sweeps compare.

    Raises:
        BadInput: an output is not there or damaged, or no networks were run when it was made.
    """
    swept = {}
    for sweep, name in config.list_swept():
        record = read_record(folder / name)
        if KEPT_NAME not in record.files:
            raise BadInput(f"embeddings/{name}: no {KEPT_NAME} for sweeps.{sweep}, wanted its kept_networks above 0")
        swept[name] = Entry(record, {"kept": read_parquet(folder / name / KEPT_NAME)}, {})
    return swept


def list_entries(folder: Path, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """List the entries of a stage: those wanted, or all; hidden folders are unfinished and left out."""
    if wanted is not None:
        return wanted
    if not folder.is_dir():
        return ()
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    inside = {path: sorted(path.glob(f"*/{RECORD_NAME}")) for path in found}  # an import has a zoo by architecture
    places = [place for path in found for place in [record.parent for record in inside[path]] or [path]]
    return tuple(place.relative_to(folder).as_posix() for place in places)


def read_entry(folder: Path, stage: str) -> Entry:
    """Check one output and read its tables."""
    record = read_record(folder)
    if stage in CHECKPOINT_STAGES:
        return read_checkpoint_entry(folder, record)
    tables = {}
    for file in sorted(record.files):
        path = folder / file
        if path.suffix == ".parquet" and path.name not in LONG_TABLES:
            tables[path.stem] = read_parquet(path)
    about = json.loads((folder / "config.json").read_text()) if "config.json" in record.files else {}
    return Entry(record, tables, about)


def read_checkpoint_entry(folder: Path, record: Record) -> Entry:
    """Read what is known of checkpoints, without their weights; what those of all layouts say counts for all."""
    layouts, tables, abouts = zip(*(read_table(folder, layout) for layout in list_layouts(folder)), strict=True)
    shared = {key: value for key, value in abouts[0].items() if all(about.get(key) == value for about in abouts)}
    return Entry(record, {"checkpoints": pd.concat(tables, ignore_index=True)}, shared, layouts)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table without its long columns; lists of numbers become rows of arrays."""
    names = [name for name in pq.read_schema(path).names if name not in LONG_COLUMNS]
    where = [("split", "==", "test")] if path.name in UNSEEN_ONLY else None
    return pq.read_table(path, columns=names, filters=where).to_pandas()


def pick(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Keep the rows whose columns have these values."""
    keep = np.ones(len(table), dtype=bool)
    for name, value in values.items():
        keep &= (table[name] == value).to_numpy()
    return table.loc[keep]


def numbers(table: pd.DataFrame, name: str) -> Float64[np.ndarray, " rows"]:
    """Return a column as numbers."""
    return table[name].to_numpy(dtype=np.float64)


def words(table: pd.DataFrame, name: str) -> list[str]:
    """Return the different values of a column of words, in order of first appearance."""
    return [str(value) for value in table[name].unique()]
