"""Keep which members a model learned from or was chosen by, so that no data set passes them off as unseen."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weightspace.config import BadInput
from weightspace.record import Record
from weightspace.schema import TWINS_OF_DIGEST, ZOO
from weightspace.weights.config import EVERY_ZOO

MEMBERS_NAME = "members.parquet"
IDENTITY = ["origin", "name"]
USES = {"train": "learned from", "val": "was chosen by"}
"""What a model did with the members of a side."""
FORBIDDEN = (("val", "train"), ("test", "train"), ("test", "val"))
"""Sides on which a member must not be in another data set and in the one that the model learned from."""


def list_members(
    parts: Iterable[tuple[pd.DataFrame, Mapping[str, Any]]], record: Record, sides: Iterable[str]
) -> pd.DataFrame:
    """List the members on some sides of a weight data set that have checkpoints which have not diverged.

    Args:
        parts: for each layout the table of its checkpoints, and what these share.
        record: of the data set.

    Returns:
        One row a member: `member` and `split` as in the data set; and what it is the same by in any data set, `origin`,
        the digest of its zoo, and `name`, as it is named there. A twin counts as the member that it was made of.
        Members of a zoo that is not told of are left out.
    """
    found = [identify_members(table, about, record) for table, about in parts]
    members = pd.concat(found, ignore_index=True)
    return members.loc[members["split"].isin(list(sides))].dropna().reset_index(drop=True)


def identify_members(table: pd.DataFrame, about: Mapping[str, Any], record: Record) -> pd.DataFrame:
    """Say of each member of one layout, on any side, which it is in whatever data set."""
    members = table.loc[~table["diverged"], ["member", "split", *([ZOO] if ZOO in table else [])]].drop_duplicates()
    zoo = record.config.get("zoo", "")
    names, zoos, told = members["member"].tolist(), [zoo] * len(members), {zoo: about}
    if zoo == EVERY_ZOO:
        zoos, told = members[ZOO].tolist(), about.get("zoos", {})
        names = [name.removeprefix(f"{one}/") for name, one in zip(names, zoos, strict=True)]
    origins = {one: told.get(one, {}).get(TWINS_OF_DIGEST) or record.inputs.get(f"zoo/{one}") for one in set(zoos)}
    return members[["member", "split"]].assign(origin=[origins[one] for one in zoos], name=names)


def write_members(folder: Path, members: pd.DataFrame) -> None:
    """Write which members a model learned from or was chosen by beside it."""
    members.to_parquet(folder / MEMBERS_NAME, index=False)


def check_unseen(folder: Path, members: pd.DataFrame, learned: str, given: str) -> None:
    """Refuse a data set in which members count as unseen that a model has seen; all pass if it does not tell.

    What the model learned from may be on the train side only, and what it was chosen by not on the test side.

    Args:
        folder: of the hyper-representation.
        members: of the data set, with the sides on which they are there.
        learned, given: names of the weight data sets that the model learned from, and that it is to embed.

    Raises:
        BadInput: there are such members.
    """
    if not (folder / MEMBERS_NAME).is_file():
        return
    seen = pd.read_parquet(folder / MEMBERS_NAME)
    both = members.merge(seen, on=IDENTITY, suffixes=("", "_seen"))
    wrong = {
        pair: both.loc[(both["split"] == pair[0]) & (both["split_seen"] == pair[1]), "member"] for pair in FORBIDDEN
    }
    names = {pair: found.unique().tolist() for pair, found in wrong.items() if len(found)}
    if not names:
        return
    got = ", ".join(f"{len(some)} {side} members that it {USES[use]}" for (side, use), some in names.items())
    first = next(iter(names.values()))[0]
    raise BadInput(
        f"weights/{given}: got {got} ({first!r} the first), as hyperrep/{folder.name} learned from "
        f"weights/{learned}, which splits the same members otherwise; they would count as unseen. Wanted a data set "
        f"with the split and seed of weights/{learned}, or one of other zoos"
    )
