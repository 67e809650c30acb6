"""Put members on the sides train, val and test, so that all checkpoints of a member lie on one side."""

import hashlib
from collections.abc import Collection, Mapping

import pandas as pd

from weightspace.config import BadInput
from weightspace.schema import SIDES
from weightspace.weights.config import ColumnSplit, CountSplit, MemberSplit, RandomSplit, SplitConfig


def split_members(
    table: pd.DataFrame, known: Collection[str], config: SplitConfig, originals: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Say on which side each member is; twins are on that of the member that they were made of.

    Args:
        table: the checkpoints that are kept.
        known: names of all members, also of those that are not kept.
        originals: of which member each twin was made, which need not be in the table itself.

    Returns:
        `train`, `val` or `test` by member, in the order of the table; a member that is not used is missing.

    Raises:
        BadInput: a member is on two sides or on none, is not known, or no member is left to learn from; or one and its
            twin are on different sides.
    """
    members: list[str] = table["member"].drop_duplicates().tolist()
    families = {member: (originals or {}).get(member, member) for member in members}
    match config:
        case RandomSplit():
            dealt = deal_members(list(dict.fromkeys(families.values())), config)
            return {member: dealt[family] for member, family in families.items()}
        case CountSplit():
            sides = count_members(members, config)
        case ColumnSplit():
            sides = read_sides(table, config.column)
        case MemberSplit():
            sides = name_sides(members, known, config)
    if "train" not in sides.values():
        raise BadInput(f"split: none of {len(members)} members is in train, wanted some to learn from")
    check_families(sides, families)
    return sides


def check_families(sides: Mapping[str, str], families: Mapping[str, str]) -> None:
    """Make sure that nothing is learned from a twin of what is held out.

    Raises:
        BadInput: a member and its twin, or two of its twins, are on different sides.
    """
    first: dict[str, str] = {}
    for member, side in sides.items():
        other = first.setdefault(families[member], member)
        if sides[other] != side:
            raise BadInput(
                f"split: {other!r} is in {sides[other]} and {member!r}, which has the same origin, in {side}, wanted "
                "both on one side; a random split does so, or choose one zoo"
            )


def read_sides(table: pd.DataFrame, column: str) -> dict[str, str]:
    """Read the sides of members from a column.

    Raises:
        BadInput: there is no such column, or a member has two sides in it or none.
    """
    if column not in table:
        raise BadInput(f"split.column: got {column!r}, wanted a column of the zoo: {', '.join(table.columns)}")
    wanted = f"wanted one of {', '.join(SIDES)} for all its checkpoints"
    sides: dict[str, str] = {}
    for member, side in table[["member", column]].drop_duplicates().itertuples(index=False):
        if side not in SIDES:
            got = "nothing" if pd.isna(side) else repr(side)
            raise BadInput(f"split.column: member {member!r} has {got} in {column!r}, {wanted}")
        if member in sides:
            raise BadInput(f"split.column: member {member!r} is in {sides[member]} and {side}, {wanted}")
        sides[member] = side
    return sides


def name_sides(members: Collection[str], known: Collection[str], config: MemberSplit) -> dict[str, str]:
    """Put members on the sides that name them, others in train.

    Raises:
        BadInput: a name is that of no member.
    """
    named: Mapping[str, tuple[str, ...]] = {"val": config.val, "test": config.test}
    all_of_them = set(known)
    for side, names in named.items():
        for name in names:
            if name not in all_of_them:
                some = next(iter(known), "none")
                raise BadInput(f"split.{side}: got {name!r}, wanted the name of a member, such as {some!r}")
    side_of = {name: side for side, names in named.items() for name in names}
    return {member: side_of.get(member, "train") for member in members}


def count_split(num: int, config: RandomSplit) -> dict[str, int]:
    """Say how many of `num` members go to each side; train takes what rounding leaves."""
    val, test = round(num * config.val), round(num * config.test)
    return {"train": num - val - test, "val": val, "test": test}


def fill_split(num: int, config: RandomSplit) -> bool:
    """Tell whether every side that should have members has one."""
    counts = count_split(num, config)
    return all(counts[side] > 0 or getattr(config, side) == 0 for side in counts)


def deal_members(members: Collection[str], config: RandomSplit) -> dict[str, str]:
    """Deal members to sides at random.

    A member's turn depends on its name and the seed only, so more members move few of the others.

    Returns:
        `train`, `val` or `test` by member, in the order given.

    Raises:
        BadInput: too few members for a side that should have some.
    """
    num = len(members)
    counts = count_split(num, config)
    if not fill_split(num, config):
        least = next(n for n in range(1, 10_000) if fill_split(n, config))
        got = ", ".join(f"{count} {side}" for side, count in counts.items())
        raise BadInput(
            f"split: {config.train:g}/{config.val:g}/{config.test:g} of {num} members gives {got}; "
            f"wanted at least {least} members, so that no side is empty"
        )
    sides = [side for side, count in counts.items() for _ in range(count)]
    dealt = dict(zip(shuffle_members(members, config.seed), sides, strict=True))
    return {member: dealt[member] for member in members}


def shuffle_members(members: Collection[str], seed: int) -> list[str]:
    """Put members in an order in which each one's place among others depends on its name and the seed only."""
    return sorted(members, key=lambda member: hashlib.sha256(f"{seed}/{member}".encode()).digest())


def count_members(members: Collection[str], config: CountSplit) -> dict[str, str]:
    """Deal so many members to each side.

    Returns:
        `train`, `val` or `test` by member, in the order given; members left over are missing.

    Raises:
        BadInput: there are too few members.
    """
    # Train comes last, so that its count moves no other side.
    counts = {"val": config.val, "test": config.test, "train": config.train}
    wanted = sum(counts.values())
    if len(members) < wanted:
        raise BadInput(
            f"split: got {len(members)} members, wanted at least {wanted}: {config.train} train, {config.val} val and "
            f"{config.test} test; ask for fewer, or train a larger zoo"
        )
    sides = [side for side, count in counts.items() for _ in range(count)]
    dealt = dict(zip(shuffle_members(members, config.seed), sides, strict=False))
    return {member: dealt[member] for member in members if member in dealt}
