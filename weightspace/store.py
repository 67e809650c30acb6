"""Keep checkpoints as Parquet, and beside every output a record of where it came from.

An output is a folder. Its `_record.json` names the stage, the configuration, the digests of the inputs, the library
versions and the SHA-256 of every other file, so that a reader can tell an altered or truncated file from a whole one.
Nothing in a record depends on the clock or on the machine's name: the same inputs give the same bytes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from weightspace.config import BadInput, Config
from weightspace.layout import Layout

RECORD_NAME = "_record.json"
"""The underscore hides it from readers of the folder as a Parquet table."""
METADATA_KEY = b"weightspace"
WEIGHTS = "weights"
ROWS_PER_GROUP = 1024
PART_BYTES = 256 * 2**20
LIBRARIES = ("weightspace", "torch", "numpy", "pyarrow", "pandas", "scikit-learn", "numba")


class FileEntry(Config):
    """Size and digest of one file of an output."""

    bytes: int
    sha256: str


class Record(Config):
    """What an output is, and what it was made from."""

    stage: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    """Digest of each input's record, by `stage/name`."""
    libraries: dict[str, str]
    device: str
    files: dict[str, FileEntry]

    @property
    def digest(self) -> str:
        """SHA-256 that stands for the content of the whole output."""
        content = {name: entry.sha256 for name, entry in sorted(self.files.items())}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Digest a file's bytes as hexadecimal SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> list[Path]:
    """List the files below a folder that a record covers, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD_NAME)


def write_record(
    folder: Path, stage: str, name: str, config: Config, inputs: Mapping[str, Record], device: str = "cpu"
) -> Record:
    """Write the record of a finished output; call it last.

    Args:
        inputs: the records of what was read.
        device: kind of device that computed: `cpu` or `cuda`.
    """
    files = {
        str(path.relative_to(folder)): FileEntry(bytes=path.stat().st_size, sha256=hash_file(path))
        for path in list_files(folder)
    }
    record = Record(
        stage=stage,
        name=name,
        config=config.model_dump(mode="json"),
        inputs={f"{r.stage}/{r.name}": r.digest for r in inputs.values()},
        libraries={library: version(library) for library in LIBRARIES},
        device=device,
        files=files,
    )
    (folder / RECORD_NAME).write_text(record.model_dump_json(indent=1) + "\n")
    return record


def read_record(folder: Path) -> Record:
    """Read an output's record and check every file against it.

    Raises:
        BadInput: the output is missing, unfinished, or a file was removed, cut short or altered.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise BadInput(f"{folder}: no {RECORD_NAME} there, so no finished output; run the stage that makes it")
    record = Record.model_validate_json(path.read_text())
    for name, entry in record.files.items():
        check_file(folder / name, entry)
    return record


def check_file(path: Path, entry: FileEntry) -> None:
    """Compare a file with what its record says of it.

    Raises:
        BadInput: they differ.
    """
    advice = "the output was changed by hand or damaged; restore it with `dvc checkout --force` or remake it"
    if not path.is_file():
        raise BadInput(f"{path}: missing, though its record lists it; {advice}")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BadInput(f"{path}: {size} bytes, wanted {entry.bytes}; {advice}")
    if hash_file(path) != entry.sha256:
        raise BadInput(f"{path}: its content is not what its record lists; {advice}")


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the target's place when the block ends well, and vanishes when it does not.

    The folder stands beside the target until then, so an output is either the old one or the new one, never half.
    """
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        if target.exists():
            shutil.rmtree(target)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
    """
    columns = {name: pa.array(checkpoints.table[name]) for name in checkpoints.table.columns}
    flat = pa.array(np.ascontiguousarray(checkpoints.weights).reshape(-1))
    columns[WEIGHTS] = pa.FixedSizeListArray.from_arrays(flat, checkpoints.layout.num_weights)
    metadata = {"layout": checkpoints.layout.model_dump(mode="json"), **checkpoints.about}
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    partial = path.with_suffix(".partial")
    words = [name for name, column in columns.items() if pa.types.is_large_string(column.type)]
    pq.write_table(
        table,
        partial,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        use_dictionary=words,  # pyright: ignore[reportArgumentType]  (column names are allowed)
        use_byte_stream_split=[f"{WEIGHTS}.list.element"],  # pyright: ignore[reportArgumentType]
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
        reason = str(error).splitlines()[0]
        raise BadInput(f"{part}: cannot be read as Parquet ({reason}); it may be cut short or altered") from error


def read_part(part: Path) -> Checkpoints:
    """Read one part of a zoo or weight data set.

    Raises:
        BadInput: it cannot be read.
    """
    layout, about = read_metadata(part)
    with name_part_errors(part):
        table = pq.read_table(part)
    return unpack_table(table, layout, about)


def unpack_table(table: pa.Table, layout: Layout, about: dict[str, Any]) -> Checkpoints:
    """Turn a table that was read into checkpoints."""
    lists = table.column(WEIGHTS).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False) if len(lists) else np.empty(0, np.float32)
    weights = values.reshape(len(table), layout.num_weights)
    return Checkpoints(layout, table.drop_columns([WEIGHTS]).to_pandas(), weights, about)


def iterate_parts(folder: Path) -> Iterator[tuple[int, Checkpoints]]:
    """Read part after part, with how many rows lie before each.

    Raises:
        BadInput: no parts, or one that cannot be read.
    """
    first = 0
    for part in list_parts(folder):
        checkpoints = read_part(part)
        yield first, checkpoints
        first += len(checkpoints.table)


def read_table(folder: Path) -> tuple[Layout, pd.DataFrame, dict[str, Any]]:
    """Read everything but the weights: the layout, one row a checkpoint in the order of the parts, what all share.

    Raises:
        BadInput: no parts, one that cannot be read, or parts of different layouts.
    """
    tables: list[pd.DataFrame] = []
    shared: tuple[Layout, dict[str, Any]] | None = None
    for part in list_parts(folder):
        metadata = read_metadata(part)
        shared = shared or metadata
        if metadata[0] != shared[0]:
            raise BadInput(f"{part}: its layout is not that of {name_part(0)} beside it, wanted one architecture")
        with name_part_errors(part):
            names = [name for name in pq.read_schema(part).names if name != WEIGHTS]
            tables.append(pq.read_table(part, columns=names).to_pandas())
    assert shared is not None
    return shared[0], pd.concat(tables, ignore_index=True), shared[1]


def read_rows(folder: Path, rows: Int64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows weights"]:
    """Read the weights of some rows, counted over the parts in order; reads only the row groups that hold them."""
    first = 0
    found: dict[int, np.ndarray] = {}
    for part in list_parts(folder):
        with name_part_errors(part), pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                stop = first + file.metadata.row_group(group).num_rows
                here = rows[(rows >= first) & (rows < stop)]
                if len(here):
                    lists = file.read_row_group(group, columns=[WEIGHTS]).column(0).combine_chunks()
                    weights = lists.flatten().to_numpy().reshape(stop - first, -1)
                    found |= {int(row): weights[row - first] for row in here}
                first = stop
    return np.stack([found[int(row)] for row in rows])


def open_parts(parts: Sequence[Path]) -> tuple[pads.Dataset, dict[str, Any]]:
    """Open Parquet parts as one table, and read the metadata that they share.

    Raises:
        BadInput: a part is no readable Parquet file of checkpoints.
    """
    try:
        schema = pq.read_schema(parts[0])
        table = pads.dataset([str(part) for part in parts], schema=schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{parts[0]}: cannot be read as Parquet ({error}); it may be cut short") from error
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise BadInput(f"{parts[0]}: a Parquet file without a weight layout in its metadata, wanted checkpoints")
    return table, json.loads(text)


def read_checkpoints(folder: Path, where: pc.Expression | None = None) -> Checkpoints:
    """Read the checkpoints of a zoo or weight data set; the weights come without a copy per row.

    Args:
        where: keeps the rows for which it holds; reads only the row groups that may have some.

    Raises:
        BadInput: no parts, or one that cannot be read.
    """
    parts = list_parts(folder)
    dataset, metadata = open_parts(parts)
    try:
        table = dataset.to_table(filter=where)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{folder}: its parts cannot be read ({error}); one may be cut short") from error
    layout = Layout.model_validate(metadata.pop("layout"))
    lists = table.column(WEIGHTS).combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=True) if len(lists) else np.empty(0, np.float32)
    weights = values.reshape(len(table), layout.num_weights)
    return Checkpoints(layout, table.drop_columns([WEIGHTS]).to_pandas(), weights, metadata)
