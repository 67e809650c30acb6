"""Run a benchmark: `python -m benchmarks NAME [--json PATH]`; without a name, list them.

What else a benchmark may be told are the arguments of its function `measure`: `python -m benchmarks faults --kills 9`.
The status is 0, or 2 when something it was given is wrong. `rerun` runs others and judges them: its status is 3 when
something got worse, and 1 when a benchmark failed.
"""

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from weightspace.config import BadInput

FOLDER = Path(__file__).parent


def list_benchmarks() -> dict[str, str]:
    """List the benchmarks by name, each with the first line of what it says of itself."""
    found = {}
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def read_settings(measure: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Read `--name value` pairs as arguments of a benchmark's function, of the types that it says.

    Raises:
        BadInput: it has no such argument, or the value is of another type.
    """
    known = inspect.signature(measure).parameters
    settings = {}
    for option, value in zip(words[::2], [*words[1::2], None], strict=False):
        name = option.removeprefix("--")
        if name not in known or not option.startswith("--"):
            wanted = ", ".join(f"--{key}" for key in known) or "nothing more"
            raise BadInput(f"benchmark: got {option}, wanted {wanted}")
        kind = known[name].annotation
        try:
            settings[name] = kind(value)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{option}: got {value}, wanted {kind.__name__}") from error
    return settings


def run_benchmark(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which benchmark; without it they are listed.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="File for the figures: {figure: value}.")] = None,
) -> None:
    """Run a benchmark, which prints a table of its figures."""
    known = list_benchmarks()
    if name is None:
        for key, text in known.items():
            print(f"{key:<12}  {text}")
        return
    try:
        if name not in known:
            raise BadInput(f"benchmark: got {name!r}, wanted one of {', '.join(known)}")
        if json_path is not None and not json_path.parent.is_dir():
            raise BadInput(f"--json: got {json_path}, but there is no folder {json_path.parent}")
        measure = importlib.import_module(f"benchmarks.{name}").measure
        found: dict[str, Any] = measure(**read_settings(measure, context.args))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n")
    raise typer.Exit(find_status(found))


def find_status(found: Mapping[str, Any]) -> int:
    """Turn what was found into an exit status: only `rerun` says what `failed` and what got `worse`."""
    if found.get("failed"):
        return 1
    return 3 if found.get("worse") else 0


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run_benchmark)
    app(prog_name="python -m benchmarks")
