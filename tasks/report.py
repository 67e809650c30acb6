"""Make a report: read every output of the study, build, write."""

import json
from pathlib import Path

from weightspace.record import replace_folder, write_record
from weightspace.report.config import ReportConfig
from weightspace.report.page import build_report
from weightspace.report.read import read_study


def make_report(name: str, config: ReportConfig, root: Path) -> None:
    """Write the page, its drawings and its figures about all outputs of a study.

    Raises:
        BadInput: there are no outputs, one that the report shall show is not there, or one is damaged.
    """
    study = read_study(root / "data", config)
    report = build_report(study, config)
    with replace_folder(root / "data" / "report" / name) as folder:
        (folder / "report.html").write_text(report.html, encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(report.metrics, indent=1, allow_nan=False) + "\n")
        (folder / "plots").mkdir()
        for plot in report.plots:
            (folder / "plots" / f"{plot.name}.svg").write_bytes(plot.svg)
        write_record(folder, "report", name, config, study.records)
