"""Say what a report shows."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from weightspace.config import Config

Shown = Literal["zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer"]


Seeds = Annotated[tuple[str, ...], Field(min_length=1)]
"""Embeddings that differ in their seed only, in the same order of seeds everywhere in a sweep."""


class Arm(Config):
    """One line of a curve."""

    label: str = Field(min_length=1)
    """What it is, in a few words."""
    embeddings: tuple[Seeds, ...] = Field(min_length=1)
    """For each of the curve's values."""


class CurveSweep(Config):
    """What reconstruction keeps, over a number that grows."""

    kind: Literal["curve"]
    title: str = Field(min_length=1)
    text: str = Field(min_length=1)
    """What is compared, in a few sentences."""
    axis: str = Field(min_length=1)
    """What the values are."""
    values: tuple[int, ...] = Field(min_length=2)
    """Ascending, above 0."""
    arms: dict[str, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def check_values(self) -> "CurveSweep":
        """Refuse values out of order, and arms that do not have embeddings for each of them."""
        if self.values[0] < 1 or list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values in ascending order from 1 on, got {list(self.values)}")
        for name, arm in self.arms.items():
            if len(arm.embeddings) != len(self.values):
                raise ValueError(f"arm {name!r} has embeddings for {len(arm.embeddings)} of {len(self.values)} values")
        check_seeds(self.list_groups())
        return self

    def list_groups(self) -> tuple[Seeds, ...]:
        """List all groups of embeddings."""
        return tuple(seeds for arm in self.arms.values() for seeds in arm.embeddings)


class Change(Config):
    """The base with one factor changed."""

    factor: str = Field(min_length=1)
    value: str = Field(min_length=1)
    embeddings: Seeds


class ChangesSweep(Config):
    """What changing one factor at a time does to what reconstruction keeps."""

    kind: Literal["changes"]
    title: str = Field(min_length=1)
    text: str = Field(min_length=1)
    """What is compared, and what the base is, in a few sentences."""
    base: Seeds
    """Embeddings of what the changes are compared with, seed by seed."""
    changes: dict[str, Change] = Field(min_length=1)

    @model_validator(mode="after")
    def check_changes(self) -> "ChangesSweep":
        """Refuse changes with another number of seeds than the base."""
        check_seeds(self.list_groups())
        return self

    def list_groups(self) -> tuple[Seeds, ...]:
        """List all groups of embeddings."""
        return (self.base, *(change.embeddings for change in self.changes.values()))


Sweep = CurveSweep | ChangesSweep


def check_seeds(groups: tuple[Seeds, ...]) -> None:
    """Refuse groups of embeddings of unlike size, which cannot be compared seed by seed."""
    for seeds in groups:
        if len(seeds) != len(groups[0]):
            raise ValueError(
                f"as many embeddings, one a seed, everywhere in a sweep, got {len(groups[0])}, but {len(seeds)} where "
                f"the first is {seeds[0]!r}"
            )


class ReportConfig(Config):
    """One report about all outputs of a study."""

    title: str = Field(min_length=1)
    """Heading of the page."""
    show: dict[Shown, tuple[str, ...]] = Field(default_factory=dict)
    """Entries to show, by stage; of a stage that is not named, all there are, in order of their names. The figures of
    the first entry stand under the short keys of `metrics.json`, those of others under `more.<stage>.<name>`."""
    sweeps: dict[str, Annotated[Sweep, Field(discriminator="kind")]] = Field(default_factory=dict)
    """Comparisons of many embeddings, each a section of its own; `kept_networks` of these must be above 0. Their
    figures stand under `sweeps.<name>` in `metrics.json`, whether they are shown one by one or not."""

    def list_swept(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each sweep with each of its embeddings."""
        for name, sweep in self.sweeps.items():
            yield from ((name, embeddings) for seeds in sweep.list_groups() for embeddings in seeds)
