"""Tell what a data set on disk is, where it came from and whether it is whole."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from weightspace.config import BadInput
from weightspace.imports.build import REPORT_NAME
from weightspace.layout import Layout
from weightspace.record import RECORD_NAME, Record, check_file
from weightspace.store import read_table

MOST_VALUES = 8
"""A factor with more values is shown as a range."""
PLACING = ("member", "epoch", "diverged")


def read_claims(folder: Path) -> Record:
    """Read an output's record without checking its files.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        inside = sorted(one.parent.name for one in folder.glob(f"*/{RECORD_NAME}"))
        advice = f"it holds {', '.join(inside[:5])}" if inside else "so no finished output"
        raise BadInput(f"{folder}: no {RECORD_NAME} there; {advice}")
    try:
        return Record.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as a record; it may be cut short") from error


def find_damage(folder: Path, record: Record) -> str | None:
    """Check every file against the record; None if all are as they were written."""
    try:
        for name, entry in record.files.items():
            check_file(folder / name, entry)
    except BadInput as error:
        return str(error)
    return None


def describe_output(folder: Path, record: Record) -> Iterator[str]:
    """Yield lines that describe an output of any stage."""
    size = sum(entry.bytes for entry in record.files.values())
    yield f"{record.stage} {record.name}"
    yield f"  files      {len(record.files)}, {size / 1e6:,.1f} MB"
    yield f"  digest     {record.digest}"
    for name, digest in record.inputs.items():
        yield f"  made from  {name}, digest {digest[:16]}"
    libraries = ", ".join(f"{name} {version}" for name, version in record.libraries.items())
    yield f"  made with  {libraries}, {record.device}"
    if any(name.endswith(".parquet") and name.startswith("part-") for name in record.files):
        yield from describe_checkpoints(folder)
    if (folder / REPORT_NAME).is_file():
        yield from describe_import(json.loads((folder / REPORT_NAME).read_text()))


def describe_checkpoints(folder: Path) -> Iterator[str]:
    """Yield lines that describe a zoo or weight data set."""
    layout, table, about = read_table(folder)
    network = about.get("architecture", {}).get("name") or about.get("network", "not named")
    images = about.get("images", {}).get("name", "not named")
    epochs = f"{table['epoch'].min()} to {table['epoch'].max()}, {table['epoch'].nunique()} of them"
    diverged = table.loc[table["diverged"], "member"].nunique()
    yield f"  network    {network}, {layout.num_weights:,} weights in {layout.num_layers} layers"
    yield f"  images     {images}"
    yield f"  members    {table['member'].nunique():,}, of which {diverged} diverged"
    yield f"  epochs     {epochs}; {len(table):,} checkpoints"
    for column in table.columns:
        if column not in PLACING:
            yield f"    {column:<20} {describe_column(pd.Series(table[column]))}"
    yield from describe_layout(layout)


def describe_column(values: pd.Series) -> str:
    """Show the values of a column on one line."""
    known = values.dropna()
    gaps = f"; not known for {len(values) - len(known):,}" if len(known) < len(values) else ""
    if known.empty:
        return "not known"
    options = sorted(known.unique().tolist())
    if len(options) <= MOST_VALUES:
        return ", ".join(f"{option:g}" if isinstance(option, float) else str(option) for option in options) + gaps
    if pd.api.types.is_numeric_dtype(known):
        return f"{known.min():g} to {known.max():g}, median {known.median():g}{gaps}"
    return f"{len(options):,} values{gaps}"


def describe_layout(layout: Layout) -> Iterator[str]:
    """Yield a table of the tensors in their order."""
    width = max(len(place.name) for place in layout.places)
    yield f"  layout     {'tensor':<{width}}  offset  kind    shape, and what permutes each axis"
    for place in layout.places:
        axes = " ".join(f"{length}:{axis or '-'}" for axis, length in zip(place.axes, place.shape, strict=True))
        kind = place.kind if place.trained else f"{place.kind}, not trained"
        yield f"             {place.name:<{width}}  {place.offset:>6}  {kind:<6}  {axes}"


def describe_import(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that say where an imported zoo came from and what was proved of it."""
    yield f"  imported   {report['format']} from {report['path']}: {report['members']} members"
    yield f"  source     {json.dumps(report['source'])}"
    if report["epoch_offset"] is not None:
        yield f"  joined     metrics of iteration n to checkpoint n - {report['epoch_offset']}"
    for note in report["notes"]:
        yield f"  note       {note}"
    yield f"  proof      {describe_proof(report['proof'])}"


def describe_proof(proof: Mapping[str, Any]) -> str:
    """Say on one line what was proved."""
    if "why" in proof:
        return f"nothing could be proved: {proof['why']}"
    verdict = (
        "agree" if proof["proved"] else "DIFFER: these images, their preparation or the network are not the source's"
    )
    return (
        f"stored and measured accuracies of {len(proof['checkpoints'])} members {verdict}; "
        f"largest difference {proof['max_difference']:.4f}, tolerated {proof['tolerance']:.4f}"
    )
