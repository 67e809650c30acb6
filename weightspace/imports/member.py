"""What every reader of a foreign format gives: members with their checkpoints, metrics and factors."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Wiring = Literal["chain", "unknown", "by_name"]
"""`chain` is what a user vouches for; `by_name`: a chain if all layers stand in one `module_list`, a residual network
if its modules have the names that are usual for one."""
SPLIT_COLUMN = "published_split"
State = Mapping[str, Tensor]
Metrics = Mapping[int, Mapping[str, float]]
"""Properties by the iteration that the source gives them."""


@dataclass(frozen=True)
class Member:
    """A network with its checkpoints, as a source tells of it."""

    name: str
    checkpoints: Mapping[int, Callable[[], State]]
    """Reads the tensors; by the number that the source gives the checkpoint."""
    metrics: Metrics
    factors: Mapping[str, Any]
    """By our names where we have one; and the columns that the reader announced."""
    wiring: Wiring
    padded: bool = False
    """Whether its convolutions are padded, as those of no network of ours are."""


@dataclass(frozen=True)
class Reading:
    """A foreign zoo that is being read."""

    members: Iterator[Member]
    numbers: tuple[str, ...] = ()
    """Columns with numbers beside the usual ones."""
    words: tuple[str, ...] = ()
    """Columns with text beside the usual ones."""
    notes: Counter[str] = field(default_factory=Counter)
    """What a user should know of, and how often it was met."""
    describe: Callable[[], dict[str, Any]] = dict
    """Says what the source is, when all members were read."""
