"""Say what a report shows."""

from typing import Literal

from pydantic import Field

from weightspace.config import Config

Shown = Literal["zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer"]


class ReportConfig(Config):
    """One report about all outputs of a study."""

    title: str = Field(min_length=1)
    """Heading of the page."""
    show: dict[Shown, tuple[str, ...]] = Field(default_factory=dict)
    """Entries to show, by stage; of a stage that is not named, all there are, in order of their names. The figures of
    the first entry stand under the short keys of `metrics.json`, those of others under `more.<stage>.<name>`."""
