"""Say which columns a table of checkpoints has, and hold a Parquet part to it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from weightspace import factors
from weightspace.config import BadInput

WEIGHTS = "weights"
LAYOUT = "layout"
ZOO = "zoo"
SIDES = ("train", "val", "test")
"""Values of the column `split`."""


@dataclass(frozen=True)
class Kind:
    """What a column may hold."""

    words: str
    accepts: Callable[[pa.DataType], bool]


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column holds numbers, whole or not; whole ones with gaps become floats in pandas."""
    return pat.is_integer(kind) or pat.is_floating(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds words."""
    return pat.is_string(kind) or pat.is_large_string(kind)


TEXT = Kind("words", is_text)
WHOLE = Kind("whole numbers", pat.is_integer)
NUMBER = Kind("numbers", is_number)
FLAG = Kind("true or false", pat.is_boolean)

REQUIRED = {"member": TEXT, "epoch": WHOLE, "diverged": FLAG}
"""What every checkpoint says of itself, besides its weights."""
PROPERTIES = {
    **{f"{side}_{what}": NUMBER for side in ("train", "val", "test") for what in ("loss", "accuracy")},
    "generalization_gap": NUMBER,
}
"""What was measured. An unknown value is a gap, in these and in factors."""
FACTORS = {name: TEXT if name in factors.WORD_FACTORS else NUMBER for name in factors.FACTORS}
"""What varies between members."""
TWINS_OF = "twins_of"
"""In the metadata of twins: of which zoo's members they are, under the same names."""
TWINS_OF_DIGEST = "twins_of_digest"
"""In the metadata of twins: the digest of that zoo's content."""
PLACING = {"split": TEXT, ZOO: TEXT, LAYOUT: TEXT}
"""Side of the split, zoo that a member is of where there are several, layout of the row where there are several."""
COLUMNS = REQUIRED | PROPERTIES | FACTORS | PLACING
"""Columns that mean the same wherever they are; a zoo may have others besides, of any flat type."""


def check_columns(part: Path, schema: pa.Schema, num_weights: int, required: Collection[str]) -> None:
    """Hold the columns of a part to the schema.

    Args:
        num_weights: what the part's layout says.
        required: columns that must be there, besides the weights.

    Raises:
        BadInput: a column is missing or holds something else.
    """
    for name in (*required, WEIGHTS):
        if name not in schema.names:
            wanted = ", ".join((*required, WEIGHTS))
            raise BadInput(f"{part}: has no column `{name}`, wanted checkpoints with {wanted}")
    for name, kind in COLUMNS.items():
        if name in schema.names:
            found = schema.field(name).type
            if not kind.accepts(found) and (name in required or not pat.is_null(found)):
                raise BadInput(f"{part}: column `{name}` holds {found}, wanted {kind.words}")
    check_weights(part, schema.field(WEIGHTS).type, num_weights)


def check_weights(part: Path, kind: pa.DataType, num_weights: int) -> None:
    """Hold the column of weights to the layout; lists of no fixed size are looked at when they are read."""
    fixed, free = pat.is_fixed_size_list(kind), pat.is_list(kind)
    if not (fixed or free) or not pat.is_float32(kind.value_type):
        raise BadInput(f"{part}: column `{WEIGHTS}` holds {kind}, wanted lists of float32")
    if fixed and kind.list_size != num_weights:
        raise BadInput(f"{part}: `{WEIGHTS}` holds lists of {kind.list_size}, wanted {num_weights}, as its layout says")


def check_gaps(part: Path, table: pa.Table, required: Collection[str]) -> None:
    """Make sure that no required value is missing.

    Raises:
        BadInput: one is.
    """
    for name in required:
        if gaps := table.column(name).null_count:
            raise BadInput(f"{part}: column `{name}` is empty in {gaps} of {len(table)} rows, wanted a value in each")
