"""Keep what a run found with the run, as artifacts that Prefect's pages show: tables, reports, plots, progress."""

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.orchestration.graph import Out

if TYPE_CHECKING:
    from flows.orchestration.measuring import Measured

UPDATE_EVERY_S = 2.0
MOST_IMAGES = 40
MOST_IMAGE_BYTES = 1 << 20
"""Images lie in Prefect's database, so that they can be seen from other machines: neither many nor large ones."""
IMAGE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
DEEPEST = 2
"""Figures further inside `metrics.json` are many; the report has them."""
ENDS = ("_low", "_high")
"""What the ends of a figure's interval are called after the figure."""


def make_key(*parts: str) -> str:
    """Make a key of an artifact: lower case letters, digits and dashes are all that Prefect allows."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def keep_tables(study: str, rows: Sequence[tuple[str, str, float]], outs: Mapping[str, Sequence[Out]]) -> None:
    """Keep what became of each stage, and what each has made, by name in the study `study`."""
    stages = [{"stage": name, "how": how, "seconds": round(seconds, 1)} for name, how, seconds in rows]
    create_table_artifact(stages, key=make_key("stages", study), description="What became of each stage.")
    made = [{"stage": name, **out} for name, some in outs.items() for out in some]
    create_table_artifact(made, key=make_key("outputs", study), description="What each stage made, as dvc.lock has it.")


def keep_report(study: str, name: str, folder: Path) -> None:
    """Keep a report: where it is, its first figures and its plots."""
    page = (folder / "report.html").resolve()
    create_link_artifact(
        page.as_uri(), "report.html", key=make_key("page", study, name), description=f"On its machine: `{page}`."
    )
    text = write_figures(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    create_markdown_artifact(
        f"The whole report is `{page}`.\n\n{text}",
        key=make_key("report", study, name),
        description=f"First figures of the report {name} of {study}.",
    )
    for path in sorted((folder / "plots").iterdir())[:MOST_IMAGES]:
        keep_image(path, make_key("plot", study, name, path.stem))


def keep_image(path: Path, key: str) -> None:
    """Keep an image, unless it is large or of a kind that pages do not show."""
    kind = IMAGE_TYPES.get(path.suffix)
    if kind is None or path.stat().st_size > MOST_IMAGE_BYTES:
        return
    content = base64.b64encode(path.read_bytes()).decode()
    create_image_artifact(f"data:{kind};base64,{content}", key=key, description=path.stem)


def write_figures(metrics: Mapping[str, Any]) -> str:
    """Write figures as a table in markdown, each with its interval behind it."""
    figures = dict(list_figures(metrics, DEEPEST))
    lines = ["| figure | value |", "|---|---|"]
    for name, value in figures.items():
        if not name.endswith(ENDS):
            low, high = (figures.get(f"{name}{end}") for end in ENDS)
            interval = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
            lines.append(f"| {name} | {value if isinstance(value, int) else f'{value:.4g}'}{interval} |")
    return "\n".join(lines)


def list_figures(metrics: Mapping[str, Any], depth: int, before: str = "") -> Iterator[tuple[str, float]]:
    """Yield the figures that lie so deep at most, by dotted name."""
    for key, value in metrics.items():
        if isinstance(value, dict):
            if depth > 1:
                yield from list_figures(value, depth - 1, f"{before}{key}.")
        elif isinstance(value, int | float):
            yield f"{before}{key}", value


def keep_verdicts(suite: str, commit: str, measured: "Measured") -> None:
    """Keep what a rerun of the benchmarks found: a table of figures, and what got worse in words."""
    rows = [dict(verdict) for verdict in measured["verdicts"]]
    create_table_artifact(
        rows, key=make_key("benchmark", suite), description=f"Figures at {commit}, and what they were."
    )
    worse = "".join(f"- {name}\n" for name in measured["worse"])
    create_markdown_artifact(
        f"Commit `{commit}`\n\n" + (f"Got worse:\n\n{worse}" if worse else "Nothing got worse."),
        key=make_key("benchmark-verdict", suite),
        description=f"What became of the {suite} suite.",
    )


class Progress:
    """How many of a run's stages are done, as a bar; updated now and then."""

    def __init__(self, study: str, total: int) -> None:
        self.total, self.done, self.updated = total, 0, time.monotonic()
        made = create_progress_artifact(0.0, key=make_key("progress", study), description=self.describe())
        self.artifact = made if isinstance(made, UUID) else UUID(str(made))

    def describe(self) -> str:
        """Say it in words."""
        return f"{self.done} of {self.total} stages done"

    def advance(self) -> None:
        """Count one stage more."""
        self.done += 1
        if self.done == self.total or time.monotonic() - self.updated > UPDATE_EVERY_S:
            self.updated = time.monotonic()
            update_progress_artifact(self.artifact, 100.0 * self.done / self.total, description=self.describe())
