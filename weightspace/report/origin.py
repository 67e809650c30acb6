"""Show how a report's outputs were made, and what to keep in mind when reading them."""

import json

from weightspace.record import Record
from weightspace.report.blocks import MISSING, Cell, Part, Section, Table
from weightspace.report.read import Study
from weightspace.report.statistics import FEW

DIGEST_LENGTH = 12
CAVEATS = (
    "Seen members are those that a hyper-representation or a probe was fitted on; validation members chose its best "
    "moment or its penalty; unseen members (the test side of the split) had no part in either. The split is by member: "
    "no member has checkpoints on two sides.",
    "Intervals of scores come from drawing members anew, not checkpoints: the checkpoints of one member are alike, and "
    "counting them all would make intervals several times too narrow. Intervals say nothing about another draw of the "
    "zoo, another split or another training of the hyper-representation; each was done once. Only intervals of "
    "comparisons over seeds say something about another split and another training.",
    f"Fewer than {FEW} members or networks, drawn anew, make intervals too narrow: those of their means and leads are "
    "by Student's t instead, and may reach beyond what a figure can be, such as an accuracy above 100%. A single one "
    "has no interval, and nothing is told apart from it. Intervals of a probe's scores are drawn anew however few "
    "members there are.",
    "Test images had no part in choosing members, anchors or samples; they only score.",
)


def show_origin(study: Study) -> Section:
    """Show configurations, inputs, versions and devices of every output."""
    records = study.records
    folded = [(title, json.dumps(record.config, indent=2)) for title, record in records.items()]
    parts = [
        Part("Read with care", CAVEATS),
        Part("Outputs and versions", tables=[tabulate_outputs(records), tabulate_libraries(records)]),
        Part("Configurations", folded=folded),
    ]
    return Section("origin", "How it was made", parts)


def tabulate_outputs(records: dict[str, Record]) -> Table:
    """Tabulate each output with its digest, its inputs and its device."""
    rows = []
    for title, record in records.items():
        inputs = ", ".join(f"{source} {digest[:DIGEST_LENGTH]}" for source, digest in record.inputs.items())
        size = f"{sum(file.bytes for file in record.files.values()) / 2**20:.2f}"
        cells = title, record.digest[:DIGEST_LENGTH], inputs or MISSING, record.device, size
        rows.append([Cell(text) for text in cells])
    note = f"Digests are the first {DIGEST_LENGTH} digits of a SHA-256 over the content of all files of an output."
    return Table("Outputs.", ["output", "digest", "made from", "device", "MiB"], rows, note, words=True)


def tabulate_libraries(records: dict[str, Record]) -> Table:
    """Tabulate the versions of libraries, with the outputs that each made where they differ."""
    makers: dict[tuple[str, str], list[str]] = {}
    for title, record in records.items():
        for library in record.libraries.items():
            makers.setdefault(library, []).append(title)
    rows = [
        [Cell(library), Cell(version), Cell("all" if len(titles) == len(records) else ", ".join(titles))]
        for (library, version), titles in makers.items()
    ]
    return Table("Versions of libraries.", ["library", "version", "outputs"], rows, words=True)
