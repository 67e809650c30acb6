"""Read zoos as one table: other images, other columns and other architectures side by side."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Int64

from weightspace.config import BadInput
from weightspace.layout import Layout
from weightspace.schema import LAYOUT, TWINS_OF, ZOO
from weightspace.store import find_weights, list_layouts, read_columns

GAPPED = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
"""Types of pandas for columns with gaps, which would otherwise become floats or objects."""


@dataclass(frozen=True)
class Source:
    """Checkpoints of one layout of one zoo."""

    zoo: str
    name: str
    """Of the layout."""
    layout: Layout
    parts: tuple[Path, ...]
    columns: pa.Table
    """Everything but the weights."""
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Networks:
    """Checkpoints of one layout, of all zoos that have it."""

    name: str
    """Of the layout, unlike that of any other."""
    layout: Layout
    parts: tuple[Path, ...]
    about: dict[str, Any]
    first: int
    """Rows of the table before theirs, which follow one another."""
    num_rows: int

    @property
    def rows(self) -> slice:
        """Say which rows of the table are theirs."""
        return slice(self.first, self.first + self.num_rows)

    def read_parts(
        self, rows: Int64[np.ndarray, " rows"]
    ) -> Iterator[tuple[slice, Float32[np.ndarray, "some weights"]]]:
        """Read the weights of some rows of the table, ascending, one part at a time; with which of `rows` they are."""
        first = self.first
        for part in self.parts:
            stored = find_weights([part], self.layout.num_weights)
            here = slice(*np.searchsorted(rows, (first, first + stored.num_rows)))
            yield here, stored.read(rows[here] - first)
            first += stored.num_rows


def read_zoo(zoo: str, folder: Path) -> list[Source]:
    """Read everything but the weights of a zoo.

    Raises:
        BadInput: it cannot be read.
    """
    sources = []
    for name, parts in list_layouts(folder).items():
        layout, columns, about = read_columns(parts)
        if LAYOUT in columns.column_names:
            columns = columns.drop_columns([LAYOUT])
        sources.append(Source(zoo, name, layout, tuple(parts), columns, about))
    return sources


def mark_zoo(zoo: str, columns: pa.Table) -> pa.Table:
    """Say in a table of members of which zoo they are, in their names and in a column."""
    names = [f"{zoo}/{member}" for member in columns.column("member").to_pylist()]
    place = columns.schema.get_field_index("member")
    columns = columns.set_column(place, "member", pa.array(names, pa.large_string()))
    if ZOO in columns.column_names:
        columns = columns.drop_columns([ZOO])
    return columns.add_column(1, ZOO, pa.array([zoo] * len(columns), pa.large_string()))


def gather_zoos(zoos: Mapping[str, Path], several: bool) -> tuple[pd.DataFrame, list[Networks]]:
    """Read everything but the weights of all zoos: one table, in which networks of one layout follow one another.

    A column that some zoo lacks has gaps there.

    Args:
        several: whether to name members `zoo/member`; else there must be one zoo.

    Raises:
        BadInput: a zoo cannot be read, or a column holds numbers in one and words in another.
    """
    assert several or len(zoos) == 1
    sources = [source for zoo, folder in zoos.items() for source in read_zoo(zoo, folder)]
    by_layout: dict[Layout, list[Source]] = {}
    for source in sources:
        by_layout.setdefault(source.layout, []).append(source)
    networks, tables, first = [], [], 0
    for name, (layout, group) in zip(name_apart(by_layout), by_layout.items(), strict=True):
        tables += [mark_zoo(source.zoo, source.columns) if several else source.columns for source in group]
        num_rows = sum(len(source.columns) for source in group)
        parts = tuple(part for source in group for part in source.parts)
        about = describe_group(group) if several else dict(group[0].about)
        networks.append(Networks(name, layout, parts, about, first, num_rows))
        first += num_rows
    return to_pandas(join_tables(tables, list(zoos))), networks


def find_originals(table: pd.DataFrame, networks: Sequence[Networks]) -> dict[str, str]:
    """Say of which member each twin in a table of several zoos was made; others than twins are missing."""
    about = {zoo: said for group in networks for zoo, said in group.about.get("zoos", {}).items()}
    origins = {zoo: said[TWINS_OF] for zoo, said in about.items() if TWINS_OF in said}
    if not origins:
        return {}
    twins = table.loc[table[ZOO].isin(list(origins)), [ZOO, "member"]].drop_duplicates()
    return {member: f"{origins[zoo]}/{member.removeprefix(f'{zoo}/')}" for zoo, member in twins.itertuples(index=False)}


def name_apart(groups: Mapping[Layout, Sequence[Source]]) -> list[str]:
    """Name each layout as its first zoo does, and by its number of weights where another is named alike.

    Raises:
        BadInput: two are alike in both.
    """
    plain = [group[0].name for group in groups.values()]
    alike = Counter(plain)
    names = [
        name if alike[name] == 1 else f"{name}_{layout.num_weights}" for name, layout in zip(plain, groups, strict=True)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            raise BadInput(f"zoo: {count} architectures are all named {name!r}, wanted names that tell them apart")
    return names


def describe_group(group: Sequence[Source]) -> dict[str, Any]:
    """Say what checkpoints of several zoos share, and in `zoos` what each zoo says of its own."""
    first = group[0].about
    missing = object()
    shared = {key: value for key, value in first.items() if all(s.about.get(key, missing) == value for s in group)}
    return shared | {"zoos": {source.zoo: dict(source.about) for source in group}}


def join_tables(tables: Sequence[pa.Table], zoos: Sequence[str]) -> pa.Table:
    """Lay tables end to end; a column that one lacks is empty there, and has the type that it has elsewhere.

    Raises:
        BadInput: a column has types that do not fit together.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise BadInput(f"zoo: the columns of {', '.join(zoos)} do not fit together ({error})") from error


def to_pandas(columns: pa.Table) -> pd.DataFrame:
    """Turn a table over to pandas with its types."""
    table = columns.to_pandas()
    for name in columns.column_names:
        column = columns.column(name)
        if column.null_count and column.type in GAPPED:
            table[name] = column.to_pandas(types_mapper=GAPPED.get)
    return table
