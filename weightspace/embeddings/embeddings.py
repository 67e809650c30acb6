"""The embeddings of a weight data set, in memory and on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from weightspace.config import BadInput

EMBEDDINGS_NAME, RECONSTRUCTION_NAME = "embeddings.parquet", "reconstruction.parquet"
SUMMARY, TOKENS, UNTRAINED = "summary", "tokens", "untrained_summary"
SHAPE_KEY = b"tokens_shape"


@dataclass(frozen=True)
class Embeddings:
    """What a hyper-representation makes of checkpoints."""

    table: pd.DataFrame
    """One row a checkpoint: those of the weight data set, and `reconstruction_error`."""
    summary: Float32[np.ndarray, "checkpoints d_summary"]
    tokens: Float32[np.ndarray, "checkpoints tokens d_latent"]
    untrained: Float32[np.ndarray, "checkpoints d_summary"] | None
    """The summary by the same model before its first step; None where that was not asked for."""

    def __post_init__(self) -> None:
        assert len(self.table) == len(self.summary) == len(self.tokens)


def pack_lists(values: Float32[np.ndarray, "rows *shape"]) -> pa.FixedSizeListArray:
    """Turn one array a row into a column of lists of one length."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def unpack_lists(column: pa.ChunkedArray, rows: int) -> Float32[np.ndarray, "rows length"]:
    """Turn a column of lists of one length into an array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=True).reshape(rows, -1)


def write_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """Write embeddings into a folder that exists."""
    table = pa.Table.from_pandas(embeddings.table, preserve_index=False)
    table = table.append_column(SUMMARY, pack_lists(embeddings.summary))
    table = table.append_column(TOKENS, pack_lists(embeddings.tokens))
    if embeddings.untrained is not None:
        table = table.append_column(UNTRAINED, pack_lists(embeddings.untrained))
    tokens, d_latent = embeddings.tokens.shape[1:]
    table = table.replace_schema_metadata({SHAPE_KEY: f"{tokens} {d_latent}"})
    pq.write_table(table, folder / EMBEDDINGS_NAME, compression="zstd")


def read_embeddings(folder: Path) -> Embeddings:
    """Read embeddings.

    Raises:
        BadInput: the file is missing or cannot be read.
    """
    path = folder / EMBEDDINGS_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted embeddings; run the embeddings stage that makes it")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); it may be cut short") from error
    shape = [int(part) for part in table.schema.metadata[SHAPE_KEY].split()]
    summary, tokens = (unpack_lists(table.column(name), len(table)) for name in (SUMMARY, TOKENS))
    untrained = unpack_lists(table.column(UNTRAINED), len(table)) if UNTRAINED in table.column_names else None
    lists = [name for name in (SUMMARY, TOKENS, UNTRAINED) if name in table.column_names]
    plain = table.drop_columns(lists).to_pandas()
    return Embeddings(plain, summary, tokens.reshape(len(table), *shape), untrained)


def write_reconstruction(folder: Path, errors: pd.DataFrame) -> None:
    """Write reconstruction errors into a folder that exists."""
    pq.write_table(pa.Table.from_pandas(errors, preserve_index=False), folder / RECONSTRUCTION_NAME)


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
