"""The embeddings of a weight data set, in memory and on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from weightspace.config import BadInput
from weightspace.schema import LAYOUT

EMBEDDINGS_NAME, RECONSTRUCTION_NAME, KEPT_NAME = "embeddings.parquet", "reconstruction.parquet", "kept.parquet"
SUMMARY, TOKENS, UNTRAINED = "summary", "tokens", "untrained_summary"
SHAPE_KEY, SHAPES_KEY = b"tokens_shape", b"tokens_shapes"
"""Tokens of a network and numbers of each; of several layouts, by name."""


@dataclass(frozen=True)
class Embeddings:
    """What a hyper-representation makes of checkpoints."""

    table: pd.DataFrame
    """One row a checkpoint: those of the weight data set, and `reconstruction_error`."""
    summary: Float32[np.ndarray, "checkpoints d_summary"]
    tokens: Float32[np.ndarray, "checkpoints tokens d_latent"] | None
    """None where networks have several layouts, and so not as many tokens: those of one layout are read by its name."""
    untrained: Float32[np.ndarray, "checkpoints d_summary"] | None
    """The summary by the same model before its first step; None where that was not asked for."""

    def __post_init__(self) -> None:
        assert len(self.table) == len(self.summary)
        assert self.tokens is None or len(self.table) == len(self.tokens)

    def take_tokens(self, rows: Int64[np.ndarray, " rows"], where: str) -> Float32[np.ndarray, "rows tokens d_latent"]:
        """Return the tokens of some checkpoints.

        Raises:
            BadInput: they have several layouts; naming `where` the embeddings are.
        """
        if self.tokens is None:
            raise BadInput(f"{where}: holds networks of several layouts, which have not as many tokens; wanted one")
        return self.tokens[rows]


def pack_lists(values: Float32[np.ndarray, "rows *shape"]) -> pa.FixedSizeListArray:
    """Turn one array a row into a column of lists of one length."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def unpack_lists(column: pa.ChunkedArray, rows: int) -> Float32[np.ndarray, "rows length"]:
    """Turn a column of lists of one length into an array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=True).reshape(rows, -1)


def make_table(embeddings: Embeddings) -> pa.Table:
    """Put all that is known of networks of one layout into one table."""
    assert embeddings.tokens is not None
    table = pa.Table.from_pandas(embeddings.table, preserve_index=False)
    table = table.append_column(SUMMARY, pack_lists(embeddings.summary))
    table = table.append_column(TOKENS, pack_lists(embeddings.tokens))
    if embeddings.untrained is not None:
        table = table.append_column(UNTRAINED, pack_lists(embeddings.untrained))
    tokens, d_latent = embeddings.tokens.shape[1:]
    return table.replace_schema_metadata({SHAPE_KEY: f"{tokens} {d_latent}"})


def loosen_table(layout: str, table: pa.Table) -> pa.Table:
    """Name the layout in each row, and let lists of tokens have any length."""
    if LAYOUT in table.column_names:
        table = table.drop_columns([LAYOUT])
    table = table.append_column(LAYOUT, pa.array([layout] * len(table), pa.large_string()))
    tokens = table.column(TOKENS).cast(pa.list_(pa.float32()))
    return table.set_column(table.column_names.index(TOKENS), TOKENS, tokens).replace_schema_metadata(None)


def write_embeddings(folder: Path, embeddings: Embeddings | Mapping[str, Embeddings]) -> None:
    """Write embeddings into a folder that exists.

    Of several layouts, given by name, rows follow one another, a column `layout` names theirs, and lists of tokens have
    lengths of their own.
    """
    if isinstance(embeddings, Mapping) and len(embeddings) == 1:
        (embeddings,) = embeddings.values()
    if isinstance(embeddings, Embeddings):
        pq.write_table(make_table(embeddings), folder / EMBEDDINGS_NAME, compression="zstd")
        return
    tables = {name: make_table(one) for name, one in embeddings.items()}
    shapes = {name: table.schema.metadata[SHAPE_KEY].decode() for name, table in tables.items()}
    parts = [loosen_table(name, table) for name, table in tables.items()]
    joined = pa.concat_tables(parts, promote_options="permissive")
    joined = joined.replace_schema_metadata({SHAPES_KEY: json.dumps(shapes)})
    pq.write_table(joined, folder / EMBEDDINGS_NAME, compression="zstd")


def read_embeddings(folder: Path, layout: str | None = None) -> Embeddings:
    """Read embeddings.

    Args:
        layout: name of the layout to read, where there are several; None reads all, without tokens if there are
            several.

    Raises:
        BadInput: the file is missing or cannot be read, or has no such layout.
    """
    path = folder / EMBEDDINGS_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted embeddings; run the embeddings stage that makes it")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error
    shape = table.schema.metadata.get(SHAPE_KEY)
    if shape is None and layout is not None:
        shapes = json.loads(table.schema.metadata[SHAPES_KEY])
        if layout not in shapes:
            raise BadInput(f"{path}: got the layout {layout!r}, wanted one of {', '.join(shapes)}")
        table, shape = table.filter(pc.field(LAYOUT) == layout), shapes[layout]
    summary = unpack_lists(table.column(SUMMARY), len(table))
    tokens = None
    if shape is not None:
        sizes = [int(part) for part in shape.split()]
        tokens = unpack_lists(table.column(TOKENS), len(table)).reshape(len(table), *sizes)
    untrained = unpack_lists(table.column(UNTRAINED), len(table)) if UNTRAINED in table.column_names else None
    lists = [name for name in (SUMMARY, TOKENS, UNTRAINED) if name in table.column_names]
    plain = table.drop_columns(lists).to_pandas()
    return Embeddings(plain, summary, tokens, untrained)


def write_reconstruction(folder: Path, errors: Sequence[pd.DataFrame]) -> None:
    """Write reconstruction errors, of each layout, into a folder that exists."""
    write_joined(folder / RECONSTRUCTION_NAME, errors)


def write_kept(folder: Path, kept: Sequence[pd.DataFrame]) -> None:
    """Write what networks and their reconstructions do, of each layout, into a folder that exists."""
    write_joined(folder / KEPT_NAME, kept)


def write_joined(path: Path, parts: Sequence[pd.DataFrame]) -> None:
    """Write tables of the same columns as one."""
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path)


def read_reconstruction(folder: Path) -> pd.DataFrame:
    """Read a table of `member`, `epoch`, `split`, `method` (`hyperrep` or `pca`), `layer` (or `all`) and `error`.

    Raises:
        BadInput: the file is missing or cannot be read.
    """
    path = folder / RECONSTRUCTION_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted reconstruction errors; run the embeddings stage that makes it")
    try:
        return pq.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error
