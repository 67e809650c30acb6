"""Deal members to train, val and test, so that all checkpoints of a member lie on one side."""

import hashlib
from collections.abc import Collection

from weightspace.config import BadInput
from weightspace.weights.config import SplitConfig


def count_split(num: int, config: SplitConfig) -> dict[str, int]:
    """Say how many of `num` members go to each side; train takes what rounding leaves."""
    val, test = round(num * config.val), round(num * config.test)
    return {"train": num - val - test, "val": val, "test": test}


def fill_split(num: int, config: SplitConfig) -> bool:
    """Tell whether every side that should have members has one."""
    counts = count_split(num, config)
    return all(counts[side] > 0 or getattr(config, side) == 0 for side in counts)


def split_members(members: Collection[str], config: SplitConfig) -> dict[str, str]:
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
    turns = sorted(members, key=lambda member: hashlib.sha256(f"{config.seed}/{member}".encode()).digest())
    sides = [side for side, count in counts.items() for _ in range(count)]
    dealt = dict(zip(turns, sides, strict=True))
    return {member: dealt[member] for member in members}
