"""Keep samples on disk."""

from pathlib import Path

from weightspace.config import BadInput
from weightspace.samples.generate import SampleTables
from weightspace.store import Checkpoints, read_part, write_part

SAMPLES_NAME = "samples.parquet"


def write_samples(folder: Path, tables: SampleTables) -> None:
    """Write a table of samples, with its scores, into a folder that exists."""
    write_part(folder / SAMPLES_NAME, tables.samples)
    for name, table in (("scores", tables.scores), ("diversity", tables.diversity)):
        table.to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)


def read_samples(folder: Path) -> Checkpoints:
    """Read samples with their weights: row, sample, seen, member, activation, init.

    Raises:
        BadInput: the file is missing or cannot be read.
    """
    path = folder / SAMPLES_NAME
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted samples; run the samples stage that makes it")
    return read_part(path)
