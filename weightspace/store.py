"""Keep checkpoints as Parquet.

A folder of parts is one table. Where all networks share one layout, `weights` is a list of fixed size. Where there are
several, each part still has one, `weights` is a list of any size and a column `layout` names the layout of each row.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.schema import LAYOUT, REQUIRED, WEIGHTS, check_columns, check_gaps

METADATA_KEY = b"weightspace"
GROUP_BYTES = 2**20
"""Weights that are decoded at once: few enough to stay in a core's cache."""
PART_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of networks that share one layout."""

    layout: Layout
    table: pd.DataFrame
    """One row a checkpoint: `member`, `epoch`, then properties, factors and, in a weight data set, `split`."""
    weights: Float32[np.ndarray, "checkpoints weights"]
    about: dict[str, Any] = field(default_factory=dict)
    """What all share: `architecture`, `images` (name and digest), `recipe`."""

    def __post_init__(self) -> None:
        assert len(self.table) == len(self.weights)
        assert self.weights.shape[1] == self.layout.num_weights

    def select(self, keep: np.ndarray) -> "Checkpoints":
        """Keep the rows that a boolean mask or an index array names, in its order."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Checkpoints(self.layout, self.table.iloc[rows].reset_index(drop=True), self.weights[rows], self.about)


def name_layout(about: Mapping[str, Any]) -> str:
    """Name the layout of a part by what all its checkpoints share."""
    return about.get("network") or about.get("architecture", {}).get("name") or "unnamed"


def write_part(path: Path, checkpoints: Checkpoints, ragged: bool = False) -> None:
    """Write checkpoints as one Parquet file, under a temporary name until it is whole.

    Weights are lists of float32, byte-stream-split and zstd-compressed; pandas, DuckDB and pyarrow read them.
    Row groups are small, so that one member is read without its neighbours, and each knows the range of every column.

    Args:
        ragged: whether parts beside this one have other layouts.
    """
    metadata = {"layout": checkpoints.layout.model_dump(mode="json"), **checkpoints.about}
    columns = {name: pa.array(checkpoints.table[name]) for name in checkpoints.table.columns}
    if ragged:
        metadata["network"] = name_layout(checkpoints.about)
        columns[LAYOUT] = pa.array([metadata["network"]] * len(checkpoints.table), pa.large_string())
    names, words = list(columns), [name for name, column in columns.items() if pa.types.is_large_string(column.type)]
    columns[WEIGHTS] = make_lists(checkpoints.weights, ragged)
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    pq.write_table(
        table,
        partial := path.with_suffix(".partial"),
        row_group_size=max(1, GROUP_BYTES // (4 * checkpoints.layout.num_weights)),
        compression="zstd",
        use_dictionary=words,  # pyright: ignore[reportArgumentType]  (column names are allowed)
        use_byte_stream_split=[f"{WEIGHTS}.list.element"],  # pyright: ignore[reportArgumentType]
        write_statistics=names,  # pyright: ignore[reportArgumentType]
    )
    partial.replace(path)


def make_lists(weights: Float32[np.ndarray, "checkpoints weights"], ragged: bool) -> pa.Array:
    """Lay weights out as a column of lists, of fixed size unless parts beside it have others; copies nothing."""
    number = pa.field("element", pa.float32(), nullable=False)  # nullable ones take half as long again to read
    rows, length = weights.shape
    values = pa.array(weights.reshape(-1))
    if not ragged:
        return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(number, length))
    starts = pa.array(np.arange(rows + 1) * length, pa.int32())
    return pa.ListArray.from_arrays(starts, values, type=pa.list_(number))


def name_part(number: int) -> str:
    """Name a Parquet part of a zoo or weight data set."""
    return f"part-{number:05d}.parquet"


def write_parts(folder: Path, checkpoints: Checkpoints) -> None:
    """Write checkpoints as Parquet parts of bounded size into a folder that exists."""
    rows = max(1, PART_BYTES // (4 * checkpoints.layout.num_weights))
    for number, start in enumerate(range(0, max(1, len(checkpoints.table)), rows)):
        stop = min(start + rows, len(checkpoints.table))
        write_part(folder / name_part(number), checkpoints.select(np.arange(start, stop)))


def list_parts(folder: Path) -> list[Path]:
    """List the Parquet parts of a folder in order.

    Raises:
        BadInput: there are none.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise BadInput(f"{folder}: no part-*.parquet there, wanted a zoo or a weight data set")
    return parts


def read_metadata(part: Path) -> tuple[Layout, dict[str, Any]]:
    """Read what all checkpoints of a part share: their layout, and the rest (`Checkpoints.about`).

    Raises:
        BadInput: it is no readable Parquet file of checkpoints.
    """
    with name_part_errors(part):
        text = (pq.read_schema(part).metadata or {}).get(METADATA_KEY)
    if text is None:
        raise BadInput(f"{part}: a Parquet file without a weight layout in its metadata, wanted checkpoints")
    metadata = json.loads(text)
    return Layout.model_validate(metadata.pop("layout")), metadata


@contextmanager
def name_part_errors(part: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into one line that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{part}: cannot be read as Parquet ({why}); it may be cut short or altered") from error


def list_layouts(folder: Path) -> dict[str, list[Path]]:
    """List the parts of a folder by the name of their layout, in order of the first part of each.

    Raises:
        BadInput: there are none, or one cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for part in list_parts(folder):
        found.setdefault(name_layout(read_metadata(part)[1]), []).append(part)
    return found


def choose_parts(folder: Path, layout: str | None) -> list[Path]:
    """List the parts with one layout of a folder; None where it has but one.

    Raises:
        BadInput: no parts, one that cannot be read, no such layout, or several and none is named.
    """
    found = list_layouts(folder)
    known = ", ".join(found)
    if layout is None and len(found) > 1:
        raise BadInput(f"{folder}: holds networks of several layouts, wanted one of them named: {known}")
    if layout is not None and layout not in found:
        raise BadInput(f"{folder}: got the layout {layout!r}, wanted one of {known}")
    return next(iter(found.values())) if layout is None else found[layout]


@dataclass(frozen=True)
class RowGroup:
    """Rows of a part that are stored, and so read, together."""

    part: Path
    number: int
    start: int
    """Rows before it, over all parts in order."""
    stop: int


@dataclass(frozen=True)
class StoredWeights:
    """Where the weights of some parts lie: looked up once, then any rows are read without another look."""

    num_weights: int
    footers: dict[Path, pq.FileMetaData]
    groups: tuple[RowGroup, ...]

    @cached_property
    def stops(self) -> Int64[np.ndarray, " groups"]:
        """Count the rows up to the end of each row group."""
        return np.array([group.stop for group in self.groups], np.int64)

    @property
    def num_rows(self) -> int:
        """Count the rows of all parts."""
        return self.groups[-1].stop if self.groups else 0

    def find_groups(self, rows: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """Say which row group each row is in."""
        return np.searchsorted(self.stops, rows, side="right")

    def read(self, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows weights"]:
        """Read the weights of some rows, counted over the parts; touches only the row groups they are in.

        Each row group is decoded by one thread and copied to its place while still in cache: no slower than pyarrow's
        own reader, whose result would have to be copied a second time to lie in one piece.

        Raises:
            BadInput: a part cannot be read, or a row has more or fewer weights than its layout says.
        """
        if not (np.diff(rows) > 0).all():
            ascending, place = np.unique(rows, return_inverse=True)
            return self.read(ascending)[place]
        memory = pa.allocate_buffer(4 * len(rows) * self.num_weights)  # from Arrow's pool, which keeps what is let go
        out = np.frombuffer(memory, np.float32).reshape(len(rows), self.num_weights)
        wanted = np.unique(self.find_groups(rows)).tolist()
        todo = iter([self.groups[i] for i in wanted])  # each thread takes the next one: a slow thread delays nobody
        threads = min(pa.cpu_count(), max(1, len(wanted)))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: self.read_groups(todo, rows, out), range(threads)))
        return out

    def read_groups(
        self, groups: Iterator[RowGroup], rows: Int64[np.ndarray, " rows"], out: Float32[np.ndarray, "rows weights"]
    ) -> None:
        """Copy the wanted rows of some row groups to their place in `out`."""
        for part, some in itertools.groupby(groups, key=lambda group: group.part):
            with self.open(part) as file:
                for group in some:
                    values = decode_group(file, group, self.num_weights)
                    here = slice(*np.searchsorted(rows, (group.start, group.stop)))
                    wanted = rows[here] - group.start
                    out[here] = values if len(wanted) == len(values) else values[wanted]

    def read_group(self, number: int) -> Float32[np.ndarray, "rows weights"]:
        """Read all rows of one row group, counted over the parts."""
        group = self.groups[number]
        with self.open(group.part) as file:
            return decode_group(file, group, self.num_weights)

    @contextmanager
    def open(self, part: Path) -> Iterator[pq.ParquetFile]:
        """Open a part without reading its footer again."""
        with name_part_errors(part), pq.ParquetFile(part, metadata=self.footers[part], memory_map=True) as file:
            yield file


def find_weights(parts: Sequence[Path], num_weights: int) -> StoredWeights:
    """Look up where the weights of some parts lie.

    Raises:
        BadInput: a part cannot be read.
    """
    footers: dict[Path, pq.FileMetaData] = {}
    groups: list[RowGroup] = []
    stop = 0
    for part in parts:
        with name_part_errors(part), pq.ParquetFile(part, memory_map=True) as file:
            for number in range(file.num_row_groups):
                start, stop = stop, stop + file.metadata.row_group(number).num_rows
                groups.append(RowGroup(part, number, start, stop))
            footers[part] = file.metadata
    return StoredWeights(num_weights, footers, tuple(groups))


def decode_group(file: pq.ParquetFile, group: RowGroup, num_weights: int) -> Float32[np.ndarray, "rows weights"]:
    """Decode the weights of one row group of an open part.

    Raises:
        BadInput: a row has more or fewer weights than its layout says, or none.
    """
    chunks = file.read_row_group(group.number, columns=[WEIGHTS], use_threads=False).column(0).chunks
    lists = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    fixed = isinstance(lists, pa.FixedSizeListArray)
    if lists.null_count or not (fixed or (np.diff(lists.offsets.to_numpy()) == num_weights).all()):
        raise BadInput(f"{group.part}: a row has not {num_weights} weights, wanted as many in each, as its layout says")
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, num_weights)


def read_columns(
    parts: Sequence[Path], required: Collection[str] = REQUIRED
) -> tuple[Layout, pa.Table, dict[str, Any]]:
    """Read everything but the weights.

    Raises:
        BadInput: a part cannot be read, has not the columns it should, or has another layout.
    """
    tables: list[pa.Table] = []
    layout, about = read_metadata(parts[0])
    for part in parts:
        if part != parts[0] and read_metadata(part)[0] != layout:
            raise BadInput(f"{part}: its layout is not that of {parts[0].name}, wanted one architecture")
        with name_part_errors(part), pq.ParquetFile(part, memory_map=True) as file:
            check_columns(part, file.schema_arrow, layout.num_weights, required)
            names = [name for name in file.schema_arrow.names if name != WEIGHTS]
            tables.append(file.read(columns=names).replace_schema_metadata(None))
        check_gaps(part, tables[-1], required)
    try:
        return layout, pa.concat_tables(tables), about
    except pa.ArrowInvalid as error:
        raise BadInput(f"{parts[0].parent}: its parts have different columns ({error})") from error


def read_parts(
    parts: Sequence[Path], where: pc.Expression | None = None, required: Collection[str] = REQUIRED
) -> Checkpoints:
    """Read the rows of some parts of one layout, in order.

    Args:
        where: keeps the rows for which it holds; the weights of others are not read, if a whole row group lacks it.
        required: columns that must be there, besides the weights.

    Raises:
        BadInput: a part cannot be read, has not the columns it should, or has another layout.
    """
    layout, table, about = read_columns(parts, required)
    rows = np.arange(len(table))
    if where is not None:
        table = table.append_column(WEIGHTS, pa.array(rows)).filter(where)
        rows = table.column(WEIGHTS).to_numpy()
        table = table.drop_columns([WEIGHTS])
    return Checkpoints(layout, table.to_pandas(), find_weights(parts, layout.num_weights).read(rows), about)


def read_part(part: Path) -> Checkpoints:
    """Read one Parquet file of networks, which need not be checkpoints of a zoo: samples have no epoch.

    Raises:
        BadInput: it cannot be read, or a column holds what it should not.
    """
    return read_parts([part], required=())


def read_checkpoints(folder: Path, where: pc.Expression | None = None, layout: str | None = None) -> Checkpoints:
    """Read the checkpoints of a zoo or weight data set, all of them unless `where` says which.

    Args:
        layout: name of the layout to read; None where the folder has but one.

    Raises:
        BadInput: no parts, one that cannot be read or lacks columns, or several layouts and none is named.
    """
    return read_parts(choose_parts(folder, layout), where)


def iterate_parts(folder: Path, layout: str | None = None) -> Iterator[tuple[int, Checkpoints]]:
    """Read part after part, with how many rows lie before each; of every layout unless one is named.

    Raises:
        BadInput: no parts, one that cannot be read or lacks columns, or no such layout.
    """
    first = 0
    for part in list_parts(folder) if layout is None else choose_parts(folder, layout):
        checkpoints = read_parts([part])
        yield first, checkpoints
        first += len(checkpoints.table)


def read_table(folder: Path, layout: str | None = None) -> tuple[Layout, pd.DataFrame, dict[str, Any]]:
    """Read everything but the weights: the layout, one row a checkpoint in the order of the parts, what all share.

    Args:
        layout: name of the layout to read; None where the folder has but one.

    Raises:
        BadInput: no parts, one that cannot be read or lacks columns, or several layouts and none is named.
    """
    layout_read, table, about = read_columns(choose_parts(folder, layout))
    return layout_read, table.to_pandas(), about


def read_rows(
    folder: Path, rows: Int64[np.ndarray, " rows"], layout: str | None = None
) -> Float32[np.ndarray, "rows weights"]:
    """Read the weights of some rows in any order, counted over the parts; reads only the row groups that hold them.

    Args:
        layout: name of the layout, over the parts of which rows count; None where the folder has but one.

    Raises:
        BadInput: no parts, one that cannot be read, or several layouts and none is named.
    """
    parts = choose_parts(folder, layout)
    return find_weights(parts, read_metadata(parts[0])[0].num_weights).read(rows)
