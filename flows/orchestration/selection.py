"""Find the stages that a user names, as `zoo` or `zoo@digits`."""

from collections.abc import Iterable, Mapping, Sequence

from flows.params import STAGES, Study, suggest
from weightspace.config import BadInput


def check_stages(study: Study, names: Iterable[str]) -> None:
    """Check that each name is a stage of a study, or one entry of a stage.

    Raises:
        BadInput: one is not.
    """
    for name in names:
        stage, _, entry = name.partition("@")
        if stage not in STAGES:
            raise BadInput(f"stage: got {name!r}, wanted {suggest(stage, STAGES)}")
        entries = getattr(study, stage)
        if entry not in entries and "@" in name:
            raise BadInput(f"stage: got {name!r}, wanted {suggest(name, [f'{stage}@{key}' for key in entries])}")


def select_stages(graph: Mapping[str, Sequence[str]], names: Iterable[str]) -> set[str]:
    """Find the stages that the names mean: `zoo` all zoos, `zoo@digits` this one."""
    wanted = set(names)
    return {stage for stage in graph if stage in wanted or stage.partition("@")[0] in wanted}


def add_needed(graph: Mapping[str, Sequence[str]], stages: set[str]) -> set[str]:
    """Add to some stages all that they need, and what that needs."""
    needed = set(stages)
    for stage in reversed(list(graph)):
        if stage in needed:
            needed.update(graph[stage])
    return needed
