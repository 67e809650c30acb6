"""The command line: bring foreign zoos in, and tell what a data set is."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from weightspace.config import BadInput
from weightspace.embed_command import embed_command

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Zoos of neural networks as data sets.")
app.command("embed")(embed_command)
FORMATS = {
    "modelzoo": ("epoch_offset", "columns", "log_sigma2"),
    "phase_transition": ("epoch_offset", "columns", "log_sigma2"),
    "wild_park": ("epoch_offset", "split_file"),
    "huggingface": ("epoch_offset", "columns", "wiring"),
    "weightclip": ("epoch_offset", "columns", "wiring"),
    "prepared_pt": (),
    "small_cnn_zoo": ("split_file",),
    "folder": ("table", "wiring"),
}
"""What each format may be told beside what all share."""


@app.command("import")
def import_command(
    path: Annotated[Path, typer.Argument(help="Folder, zip or tar archive, or file; archives are read in place.")],
    kind: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the zoo, such as data/zoo/NAME; replaced when all is read.")],
    images: Annotated[Path | None, typer.Option(help="Folder of an image set on which accuracies are proved.")] = None,
    prove: Annotated[int, typer.Option(min=0, help="Members that are rebuilt for the proof.")] = 3,
    mixed: Annotated[
        Literal["refuse", "split", "keep"],
        typer.Option(help="Of several architectures: refuse them, write a zoo of each, or keep them in one."),
    ] = "refuse",
    offset: Annotated[
        int | None, typer.Option(min=0, max=1, help="Iteration of metrics less checkpoint number.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Other number of the metrics to keep; may be repeated.")
    ] = None,
    chain: Annotated[bool, typer.Option(help="Each layer feeds only the next, so that units may be permuted.")] = False,
    threshold: Annotated[bool, typer.Option(help="Turn sparse twins into the networks they stand for.")] = False,
    split_file: Annotated[
        Path | None, typer.Option(help="Published split: JSON of the Wild Park, CSV of the Small CNN Zoo.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="CSV or Parquet with properties, a row a file.")] = None,
    key: Annotated[str, typer.Option(help="Column of the table with the names of files, without endings.")] = "file",
) -> None:
    """Import a foreign zoo."""
    special = {
        "epoch_offset": offset,
        "columns": tuple(column or ()),
        "log_sigma2": "threshold" if threshold else "refuse",
        "wiring": "chain" if chain else "by_name",
        "split_file": None if split_file is None else str(split_file),
        "table": None if table is None else {"path": str(table), "key": key},
    }
    config = {
        "format": kind,
        "path": str(path),
        "mixed": mixed,
        "images": "." if images is None else images.name,
        "proof_members": prove,
        **choose_settings(kind, special),
    }
    run_import(config, out.resolve(), images)


def choose_settings(kind: str, special: dict[str, Any]) -> dict[str, Any]:
    """Keep the settings that a format has.

    Raises:
        BadInput: there is no such format, or it has not a setting that was given.
    """
    if kind not in FORMATS:
        raise BadInput(f"--format: got {kind!r}, wanted one of {', '.join(FORMATS)}")
    names = {
        "epoch_offset": "offset",
        "columns": "column",
        "log_sigma2": "threshold",
        "wiring": "chain",
        "split_file": "split-file",
    }
    for key, value in special.items():
        if key not in FORMATS[kind] and value not in (None, (), "refuse", "by_name"):
            raise BadInput(f"--{names.get(key, key)}: the format {kind} has no such setting")
    return {key: special[key] for key in FORMATS[kind]}


def run_import(values: dict[str, Any], out: Path, images: Path | None) -> None:
    """Import a zoo and say what came of it."""
    # Late, so that help comes at once.
    from pydantic import TypeAdapter

    from weightspace.imports.build import import_zoo
    from weightspace.imports.config import ImportConfig
    from weightspace.imports.info import describe_import

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = TypeAdapter(ImportConfig).validate_python(values)
    for report in import_zoo(out.name, config, Path(), out, images):
        typer.echo(f"{out.name}: {report['network']}, {report['members']} members, {report['checkpoints']} checkpoints")
        for line in describe_import(report):
            typer.echo(line)


@app.command("info")
def info_command(
    dataset: Annotated[Path, typer.Argument(help="Folder of a zoo, a weight data set or another output.")],
) -> None:
    """Tell what a data set is, where it came from and whether it is intact."""
    from weightspace.imports.info import describe_output, find_damage, read_claims

    record = read_claims(dataset)
    damage = find_damage(dataset, record)
    if damage is not None:
        typer.echo(f"{record.stage} {record.name}\n  intact     NO")
        raise BadInput(damage)
    for line in describe_output(dataset, record):
        typer.echo(line)
    typer.echo("  intact     yes, every file is what its record says")


@app.command("trace")
def trace_command(
    target: Annotated[Path, typer.Argument(help="Folder of an output, or a report's metrics.json.")],
    key: Annotated[str | None, typer.Argument(help="Dotted key of a figure in the file.")] = None,
) -> None:
    """Walk back from a figure to code, parameters, inputs, machine and seeds of all it came from."""
    from weightspace.trace import trace

    for line in trace(target, key):
        typer.echo(line)


def main() -> None:
    """Run the command line; what a user got wrong ends in one line and status 2."""
    try:
        app()
    except (BadInput, PermissionError) as error:
        typer.echo(f"weightspace: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
