"""Tell what a data set on disk is, where it came from and whether it is whole."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from weightspace.config import BadInput
from weightspace.imports.build import REPORT_NAME
from weightspace.layout import Layout
from weightspace.record import RECORD_NAME, Record, check_files
from weightspace.schema import LAYOUT, SIDES
from weightspace.store import list_layouts, read_table
from weightspace.weights.weight_data import read_alignment

MOST_VALUES = 8
"""A factor with more values is shown as a range."""
MOST_PLACES = 16
"""A network of more tensors is not listed tensor by tensor."""
DIGITS = 16
"""Of a digest, enough to tell two apart."""
NOT_KNOWN = "not known"
PLACING = ("member", "epoch", "diverged", "split", LAYOUT)


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
    """Check the files against the record; None if all are as they were written, and no others are there."""
    try:
        check_files(folder, record)
    except BadInput as error:
        return str(error)
    return None


def describe_output(folder: Path, record: Record) -> Iterator[str]:
    """Yield lines that describe an output of any stage."""
    size = sum(entry.bytes for entry in record.files.values())
    yield f"{record.stage} {record.name}"
    yield f"  files      {len(record.files)}, {size / 1e6:,.1f} MB, digest {record.digest[:DIGITS]}"
    for name, digest in record.inputs.items():
        yield f"  made from  {name}, digest {digest[:DIGITS]}"
    libraries = ", ".join(f"{name} {version}" for name, version in record.libraries.items())
    yield f"  made with  {libraries}, {record.device}"
    if any(name.endswith(".parquet") and name.startswith("part-") for name in record.files):
        yield from describe_checkpoints(folder, record)
    if (folder / REPORT_NAME).is_file():
        yield from describe_import(json.loads((folder / REPORT_NAME).read_text()))


def describe_checkpoints(folder: Path, record: Record) -> Iterator[str]:
    """Yield lines that describe a zoo or weight data set, of one layout or several."""
    read = {name: read_table(folder, name) for name in list_layouts(folder)}
    table = pd.concat([part for _, part, _ in read.values()], ignore_index=True)
    epochs = f"{table['epoch'].min()} to {table['epoch'].max()}, {table['epoch'].nunique()} of them"
    diverged = table.loc[table["diverged"], "member"].nunique()
    yield f"  images     {', '.join(list_images([about for _, _, about in read.values()])) or 'not named'}"
    yield f"  members    {table['member'].nunique():,}, of which {diverged} diverged"
    yield f"  epochs     {epochs}; {len(table):,} checkpoints"
    for name, (layout, part, _) in list(read.items())[:MOST_VALUES]:
        size = f"{layout.num_weights:,} weights in {layout.num_layers} layers"
        share = f"; {part['member'].nunique():,} members" if len(read) > 1 else ""
        yield f"  network    {name}, {size}{share}"
    if len(read) > MOST_VALUES:
        yield f"  network    and {len(read) - MOST_VALUES} more"
    if record.stage == "weights":
        yield from describe_weights(folder, record, table, list(read))
    columns = [column for column in table.columns if column not in PLACING]
    unknown = [column for column in columns if describe_column(pd.Series(table[column])) == NOT_KNOWN]
    for column in columns:
        if column not in unknown:
            yield f"    {column:<20} {describe_column(pd.Series(table[column]))}"
    if unknown:
        yield f"  not known  {', '.join(unknown)}"
    if len(read) == 1:
        yield from describe_layout(next(iter(read.values()))[0])


def list_images(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the image sets that networks were trained on, of all zoos that they come from."""
    sources = [source for about in abouts for source in (about.get("zoos") or {"": about}).values()]
    return list(dict.fromkeys(source["images"]["name"] for source in sources if "images" in source))


def describe_weights(folder: Path, record: Record, table: pd.DataFrame, layouts: Sequence[str]) -> Iterator[str]:
    """Yield lines that say how a weight data set was split, chosen, aligned and scaled."""
    config = record.config
    sides = table.groupby("split")["member"].nunique()
    counts = ", ".join(f"{side} {sides.get(side, 0):,}" for side in SIDES)
    yield f"  split      {counts} members; {say(config['split'])}"
    filters = "; ".join(say(one) for one in config["filters"]) or "no filters"
    limit = config["max_abs_weight"]
    yield f"  chosen     epochs {say(config['epochs'])}; {filters}" + (
        "" if limit is None else f"; weights to {limit:g}"
    )
    yield f"  aligned    {say(config['alignment'])}; {describe_gain(folder, layouts)}"
    yield f"  scaled     {say(config['standardization'])}; canonical: {say(config.get('canonical', {})) or 'none'}"


def say(setting: Mapping[str, Any]) -> str:
    """Say a setting with variants on one line."""
    words = [str(setting["kind"])] if "kind" in setting else []
    for key, value in setting.items():
        if key != "kind" and value is not None:
            words.append(f"{key} {value.get('kind') if isinstance(value, dict) else value}")
    return ", ".join(words)


def describe_gain(folder: Path, layouts: Sequence[str]) -> str:
    """Say how much nearer to the reference members lie for having been aligned."""
    found = [read_alignment(folder, name) for name in layouts]
    before, after = (np.concatenate([getattr(one, side).numpy() for one in found]) for side in ("before", "after"))
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return "no member could be compared with the reference"
    pair = f"{np.median(before[known]):.3g} before, {np.median(after[known]):.3g} after"
    return f"median distance to the reference {pair}"


def describe_column(values: pd.Series) -> str:
    """Show the values of a column on one line."""
    known = values.dropna()
    gaps = f"; not known for {len(values) - len(known):,}" if len(known) < len(values) else ""
    if known.empty:
        return NOT_KNOWN
    options = sorted(known.unique().tolist())
    if len(options) <= MOST_VALUES:
        return ", ".join(f"{option:g}" if isinstance(option, float) else str(option) for option in options) + gaps
    if pd.api.types.is_integer_dtype(known):
        return f"{known.min()} to {known.max()}{gaps}"
    if pd.api.types.is_numeric_dtype(known):
        return f"{known.min():g} to {known.max():g}, median {known.median():g}{gaps}"
    return f"{len(options):,} values{gaps}"


def describe_layout(layout: Layout) -> Iterator[str]:
    """Yield a table of the tensors in their order."""
    if len(layout.places) > MOST_PLACES:
        yield f"  layout     {len(layout.places)} tensors, {len(layout.permutation_sizes)} permutations"
        return
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
