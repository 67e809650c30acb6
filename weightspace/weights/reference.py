"""Choose the networks that all others are aligned to."""

import numpy as np
import pandas as pd
from jaxtyping import Int64

from weightspace.config import BadInput
from weightspace.weights.config import AlignmentConfig, BestMember, NamedMember, WeightMatching
from weightspace.weights.zoos import Networks


def find_last(table: pd.DataFrame) -> dict[str, int]:
    """Find the row of each member's last epoch that has not diverged; a member without one is missing."""
    rows = np.flatnonzero(~table["diverged"] & table["split"].notna())
    rows = rows[np.argsort(table["epoch"].to_numpy()[rows], kind="stable")]
    return dict(zip(table["member"].to_numpy()[rows].tolist(), rows.tolist(), strict=True))


def choose_reference(
    table: pd.DataFrame, last: dict[str, int], alignment: AlignmentConfig, group: Networks, several: bool
) -> int:
    """Choose the row of the network that all others of a layout are aligned to.

    Where nothing is aligned to it, it is the first train member: later stages compare networks by their distance once
    aligned to it.

    Args:
        last: row of each member's last epoch that has not diverged.
        several: whether there are other layouts besides this one.

    Raises:
        BadInput: the member is not there, or every train member has diverged.
    """
    wanted = alignment.reference if isinstance(alignment, WeightMatching) else None
    if isinstance(wanted, NamedMember):
        return find_named(wanted.member, last, several)
    rows = np.array(sorted(row for row in last.values() if group.rows.start <= row < group.rows.stop), np.int64)
    rows = rows[table["split"].to_numpy()[rows] == "train"]
    if len(rows) == 0:
        raise BadInput(f"split: no train member of {group.name} has a checkpoint that has not diverged, wanted some")
    return find_best(table, rows) if isinstance(wanted, BestMember) else find_first(table, rows)


def find_named(member: str, last: dict[str, int], several: bool) -> int:
    """Find the last row of a member that was named.

    Raises:
        BadInput: it is not there, or cannot be the reference of all networks.
    """
    if several:
        raise BadInput(
            f"alignment.reference.member: got {member!r} for networks of several layouts, wanted `kind: best` or "
            "`kind: first`, which choose a member of each"
        )
    if member not in last:
        raise BadInput(f"alignment.reference.member: got {member!r}, wanted a member that is kept and not diverged")
    return last[member]


def find_best(table: pd.DataFrame, rows: Int64[np.ndarray, " rows"]) -> int:
    """Find the row with the highest validation accuracy.

    Raises:
        BadInput: it is not known of any.
    """
    known = "val_accuracy" in table
    scores = table["val_accuracy"].to_numpy(np.float64)[rows] if known else np.full(len(rows), np.nan)
    if not np.isfinite(scores).any():
        name = table["member"].iloc[int(rows[0])]
        raise BadInput(
            "alignment.reference: `kind: best` needs a validation accuracy, which the zoo does not tell of any train "
            f"member; wanted `kind: first`, or `kind: member` with a name such as {name!r}"
        )
    return int(rows[np.nanargmax(scores)])


def find_first(table: pd.DataFrame, rows: Int64[np.ndarray, " rows"]) -> int:
    """Find the row of the first member by name, of those whose last epoch it is; of all, where they all diverge."""
    final = table.groupby("member")["epoch"].transform("max")
    early = (table["epoch"] < final).to_numpy()
    members = table["member"].to_numpy()
    return int(min(rows, key=lambda row: (early[row], members[row])))
