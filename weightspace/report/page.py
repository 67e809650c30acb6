"""Put a report together: the page, its drawings as files, and the figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from weightspace.report.blocks import Paragraph, Plot, Section
from weightspace.report.config import ReportConfig
from weightspace.report.hyperrep import show_hyperreps
from weightspace.report.metrics import gather_metrics
from weightspace.report.origin import show_origin
from weightspace.report.probes import show_all_probes
from weightspace.report.read import Study
from weightspace.report.samples import show_all_samples
from weightspace.report.summary import summarize
from weightspace.report.sweeps import show_sweeps, summarize_sweeps
from weightspace.report.transfer import show_transfers
from weightspace.report.zoo import show_zoos

TEMPLATE = "report.html.jinja"
SECTIONS: dict[str, Callable[[Study], Section]] = {
    "zoo": show_zoos,
    "hyperrep": show_hyperreps,
    "probes": show_all_probes,
    "samples": show_all_samples,
    "transfer": show_transfers,
}


@dataclass(frozen=True)
class Report:
    """A finished report."""

    html: str
    """One page that loads nothing else."""
    plots: tuple[Plot, ...]
    metrics: dict[str, Any]
    """A tree of figures; its dotted keys are their names."""


def build_report(study: Study, config: ReportConfig) -> Report:
    """Build a report, sweeps first; a stage that was not run has no section."""
    sections = [*show_sweeps(study), *(show(study) for stage, show in SECTIONS.items() if study.of(stage))]
    sections.append(show_origin(study))
    plots = tuple(plot for section in sections for part in section.parts for plot in part.plots)
    assert len({plot.name for plot in plots}) == len(plots), "two drawings of one name"
    summary = [*summarize_sweeps(study), *summarize(study)]
    return Report(render_page(config, summary, sections), plots, gather_metrics(study))


def render_page(config: ReportConfig, summary: list[Paragraph], sections: list[Section]) -> str:
    """Render the page; text is escaped."""
    environment = Environment(
        loader=PackageLoader("weightspace.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(title=config.title, summary=summary, sections=sections)
