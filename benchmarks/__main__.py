"""Run a benchmark: `python -m benchmarks NAME [--json PATH]`; without a name, list them."""

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path(__file__).parent


def list_benchmarks() -> dict[str, str]:
    """List the benchmarks by name, each with the first line of what it says of itself."""
    found = {}
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = text.partition("\n")[0]
    return found


def run_benchmark(
    name: Annotated[str | None, typer.Argument(help="Which benchmark; without it they are listed.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures: {figure: value}.")] = None,
) -> None:
    """Run a benchmark, which prints a table of its figures."""
    known = list_benchmarks()
    if name is None:
        for key, text in known.items():
            print(f"{key:<12}  {text}")
        return
    if name not in known:
        print(f"error: benchmark: got {name!r}, wanted one of {', '.join(known)}", file=sys.stderr)
        raise typer.Exit(2)
    if json_path is not None and not json_path.parent.is_dir():
        print(f"error: --json: got {json_path}, but there is no folder {json_path.parent}", file=sys.stderr)
        raise typer.Exit(2)
    figures: dict[str, float] = importlib.import_module(f"benchmarks.{name}").measure()
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(run_benchmark)
    app(prog_name="python -m benchmarks")
