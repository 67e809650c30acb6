"""Write imported checkpoints as the parts of zoos, in bounded memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from weightspace.config import BadInput, digest_value
from weightspace.imports.config import Mixed
from weightspace.imports.metrics import GAP, PROPERTIES
from weightspace.imports.structure import Structure, describe_shapes
from weightspace.layout import Layout
from weightspace.store import PART_BYTES, Checkpoints, name_part, write_part

ROW_BYTES = 2048
"""About what a row of a table needs before it is written."""
FACTOR_TYPES = {
    "seed": "Int64",
    "activation": "str",
    "init": "str",
    "optimizer": "str",
    "lr": "float64",
    "weight_decay": "float64",
    "dropout": "float64",
    "batch_size": "Int64",
    "train_fraction": "float64",
}
"""As in a zoo of our own, but each may be unknown."""


@dataclass
class Pending:
    """Checkpoints of one structure, and what was written of it."""

    structure: Structure
    folder: Path
    first: str
    """The member that it was first met in."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    vectors: list[Float32[np.ndarray, " weights"]] = field(default_factory=list)
    checkpoints: int = 0
    members: dict[str, bool] = field(default_factory=dict)
    """Whether it has diverged."""

    @property
    def waiting_bytes(self) -> int:
        """Count about what the checkpoints that wait need."""
        return len(self.rows) * (self.structure.layout.num_weights * 4 + ROW_BYTES)


class ZooWriter:
    """Takes checkpoints one by one and writes a zoo for each structure, or one of all."""

    def __init__(
        self,
        folder: Path,
        mixed: Mixed,
        about: Mapping[str, Any],
        numbers: Sequence[str],
        words: Sequence[str],
    ) -> None:
        self.folder = folder
        self.mixed = mixed
        self.about = about
        self.types = FACTOR_TYPES | dict.fromkeys(numbers, "float64") | dict.fromkeys(words, "str")
        self.pending: dict[Layout, Pending] = {}
        self.waiting_bytes = 0
        self.parts = Counter[Path]()

    def add(
        self,
        member: str,
        epoch: int,
        structure: Structure,
        weights: Float32[np.ndarray, " weights"],
        said: Mapping[str, Any],
    ) -> None:
        """Take one checkpoint.

        Args:
            said: its properties and factors, as far as they are known.

        Raises:
            BadInput: its architecture is another than that of those before, and this was not asked for.
        """
        pending = self.pending.get(structure.layout) or self.start(structure, member)
        known = [said[name] for name in PROPERTIES if name in said]
        diverged = not (np.isfinite(weights).all() and np.isfinite(known).all())
        row = {"member": member, "epoch": epoch, **said, "diverged": diverged}
        pending.rows.append(row)
        pending.vectors.append(weights)
        pending.checkpoints += 1
        pending.members[member] = pending.members.get(member, False) or diverged
        self.waiting_bytes += weights.nbytes + ROW_BYTES
        if self.waiting_bytes >= PART_BYTES:
            self.make_room()

    def start(self, structure: Structure, member: str) -> Pending:
        """Begin the zoo of a structure that was not met before."""
        if self.pending and self.mixed == "refuse":
            other = next(iter(self.pending.values()))
            raise BadInput(
                f"{member} is {structure.name} ({describe_shapes(structure.layout)}), {other.first} is "
                f"{other.structure.name} ({describe_shapes(other.structure.layout)}); wanted one architecture, or "
                "`mixed: split` for a zoo of each, or `mixed: keep` for one of all"
            )
        structure = self.name_apart(structure)
        folder = self.folder / structure.name if self.mixed == "split" else self.folder
        folder.mkdir(exist_ok=True)
        self.pending[structure.layout] = Pending(structure, folder, member)
        return self.pending[structure.layout]

    def name_apart(self, structure: Structure) -> Structure:
        """Give a structure a name that no other has: one network may take images of one channel or of three."""
        known = {pending.structure.name for pending in self.pending.values()}
        for name in (structure.name, f"{structure.name}_{structure.layout.num_weights}"):
            if name not in known:
                return replace(structure, name=name)
        return replace(structure, name=f"{structure.name}_{digest_value(structure.layout)[:8]}")

    def make_room(self) -> None:
        """Write what waits, the structures with most of it first, until half of the room is free again."""
        for pending in sorted(self.pending.values(), key=lambda pending: -pending.waiting_bytes):
            if self.waiting_bytes <= PART_BYTES // 2:
                break
            self.flush(pending)

    def flush(self, pending: Pending) -> None:
        """Write what waits as one part."""
        structure = pending.structure
        about = dict(self.about) | {"network": structure.name}
        if structure.architecture is not None:
            about["architecture"] = structure.architecture.model_dump(mode="json")
        table = build_table(pending.rows, self.types)
        checkpoints = Checkpoints(structure.layout, table, np.stack(pending.vectors), about)
        write_part(pending.folder / name_part(self.parts[pending.folder]), checkpoints, ragged=self.mixed == "keep")
        self.parts[pending.folder] += 1
        self.waiting_bytes -= pending.waiting_bytes
        pending.rows.clear()
        pending.vectors.clear()

    def close(self) -> list[Pending]:
        """Write what is left; returns what was written of each structure."""
        for pending in self.pending.values():
            if pending.rows:
                self.flush(pending)
        return list(self.pending.values())


def build_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> pd.DataFrame:
    """Make the table of a part: the columns of a zoo of our own, with gaps where something is not known."""

    def column(name: str, kind: str) -> pd.Series:
        return pd.Series([row.get(name) for row in rows], dtype=kind)  # pyright: ignore[reportCallIssue, reportArgumentType]

    table = pd.DataFrame({"member": column("member", "str"), "epoch": column("epoch", "int64")})
    for name in PROPERTIES:
        table[name] = column(name, "float32")
    table[GAP] = (table["train_accuracy"] - table["test_accuracy"]).fillna(column(GAP, "float32"))
    table["diverged"] = column("diverged", "bool")
    for name, kind in types.items():
        table[name] = column(name, kind)
    return table
