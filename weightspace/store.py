"""Keep checkpoints as Parquet."""

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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

METADATA_KEY = b"weightspace"
WEIGHTS = "weights"
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


def write_part(path: Path, checkpoints: Checkpoints) -> None:
    """Write checkpoints as one Parquet file, under a temporary name until it is whole.

    Weights are a fixed-size list of float32, byte-stream-split and zstd-compressed; pandas, DuckDB and pyarrow read it.
    Row groups are small, so that one member is read without its neighbours, and each knows the range of every column.
    """
    columns = {name: pa.array(checkpoints.table[name]) for name in checkpoints.table.columns}
    names, words = list(columns), [name for name, column in columns.items() if pa.types.is_large_string(column.type)]
    number = pa.field("element", pa.float32(), nullable=False)  # nullable ones take half as long again to read
    kind = pa.list_(number, checkpoints.layout.num_weights)
    columns[WEIGHTS] = pa.FixedSizeListArray.from_arrays(pa.array(checkpoints.weights.reshape(-1)), type=kind)
    metadata = {"layout": checkpoints.layout.model_dump(mode="json"), **checkpoints.about}
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


@dataclass(frozen=True)
class RowGroup:
    """Rows of a part that are stored, and so read, together."""

    part: Path
    number: int
    start: int
    """Rows before it, over all parts in order."""
    stop: int


def list_groups(parts: Sequence[Path]) -> list[RowGroup]:
    """List the row groups of some parts in order.

    Raises:
        BadInput: a part cannot be read.
    """
    groups: list[RowGroup] = []
    stop = 0
    for part in parts:
        with name_part_errors(part), pq.ParquetFile(part, memory_map=True) as file:
            for number in range(file.num_row_groups):
                start, stop = stop, stop + file.metadata.row_group(number).num_rows
                groups.append(RowGroup(part, number, start, stop))
    return groups


def read_weights(
    parts: Sequence[Path], num_weights: int, rows: Int64[np.ndarray, " rows"]
) -> Float32[np.ndarray, "rows weights"]:
    """Read the weights of some rows, ascending and counted over the parts; touches only the row groups that hold them.

    Each row group is decoded by one thread and copied to its place while still in cache: no slower than pyarrow's own
    reader, whose result would have to be copied a second time to lie in one piece.
    """
    assert (np.diff(rows) > 0).all()
    memory = pa.allocate_buffer(4 * len(rows) * num_weights)  # from Arrow's pool, which keeps what is let go
    out = np.frombuffer(memory, np.float32).reshape(len(rows), num_weights)
    groups = [g for g in list_groups(parts) if np.searchsorted(rows, g.stop) > np.searchsorted(rows, g.start)]
    todo = iter(groups)  # each thread takes the next one, so that a slow thread delays nobody
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        list(pool.map(lambda _: read_groups(todo, rows, out), range(pa.cpu_count())))
    return out


def read_groups(
    groups: Iterator[RowGroup], rows: Int64[np.ndarray, " rows"], out: Float32[np.ndarray, "rows weights"]
) -> None:
    """Copy the wanted rows of some row groups to their place in `out`."""
    for part, some in itertools.groupby(groups, key=lambda group: group.part):
        with name_part_errors(part), pq.ParquetFile(part, memory_map=True) as file:
            for group in some:
                chunks = file.read_row_group(group.number, columns=[WEIGHTS], use_threads=False).column(0).chunks
                lists = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
                values = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, out.shape[1])
                here = slice(*np.searchsorted(rows, (group.start, group.stop)))
                wanted = rows[here] - group.start
                out[here] = values if len(wanted) == len(values) else values[wanted]


def read_columns(parts: Sequence[Path]) -> tuple[Layout, pa.Table, dict[str, Any]]:
    """Read everything but the weights.

    Raises:
        BadInput: a part cannot be read, or they have different layouts.
    """
    tables: list[pa.Table] = []
    layout, about = read_metadata(parts[0])
    for part in parts:
        if part != parts[0] and read_metadata(part)[0] != layout:
            raise BadInput(f"{part}: its layout is not that of {parts[0].name}, wanted one architecture")
        with name_part_errors(part), pq.ParquetFile(part, memory_map=True) as file:
            names = [name for name in file.schema_arrow.names if name != WEIGHTS]
            tables.append(file.read(columns=names).replace_schema_metadata(None))
    try:
        return layout, pa.concat_tables(tables), about
    except pa.ArrowInvalid as error:
        raise BadInput(f"{parts[0].parent}: its parts have different columns ({error})") from error


def read_parts(parts: Sequence[Path], where: pc.Expression | None = None) -> Checkpoints:
    """Read the rows of some parts of a zoo or weight data set, in order.

    Args:
        where: keeps the rows for which it holds; the weights of others are not read, if a whole row group lacks it.

    Raises:
        BadInput: a part cannot be read, or they have different layouts.
    """
    layout, table, about = read_columns(parts)
    rows = np.arange(len(table))
    if where is not None:
        table = table.append_column(WEIGHTS, pa.array(rows)).filter(where)
        rows = table.column(WEIGHTS).to_numpy()
        table = table.drop_columns([WEIGHTS])
    return Checkpoints(layout, table.to_pandas(), read_weights(parts, layout.num_weights, rows), about)


def read_part(part: Path) -> Checkpoints:
    """Read one Parquet file of checkpoints.

    Raises:
        BadInput: it cannot be read.
    """
    return read_parts([part])


def read_checkpoints(folder: Path, where: pc.Expression | None = None) -> Checkpoints:
    """Read the checkpoints of a zoo or weight data set, all of them unless `where` says which.

    Raises:
        BadInput: no parts, one that cannot be read, or parts of different layouts.
    """
    return read_parts(list_parts(folder), where)


def iterate_parts(folder: Path) -> Iterator[tuple[int, Checkpoints]]:
    """Read part after part, with how many rows lie before each.

    Raises:
        BadInput: no parts, or one that cannot be read.
    """
    first = 0
    for checkpoints in map(read_part, list_parts(folder)):
        yield first, checkpoints
        first += len(checkpoints.table)


def read_table(folder: Path) -> tuple[Layout, pd.DataFrame, dict[str, Any]]:
    """Read everything but the weights: the layout, one row a checkpoint in the order of the parts, what all share.

    Raises:
        BadInput: no parts, one that cannot be read, or parts of different layouts.
    """
    layout, table, about = read_columns(list_parts(folder))
    return layout, table.to_pandas(), about


def read_rows(folder: Path, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows weights"]:
    """Read the weights of some rows in any order, counted over the parts; reads only the row groups that hold them."""
    parts = list_parts(folder)
    ascending, place = np.unique(rows, return_inverse=True)
    return read_weights(parts, read_metadata(parts[0])[0].num_weights, ascending)[place]
