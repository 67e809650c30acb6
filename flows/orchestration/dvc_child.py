"""DVC's command as the pipeline starts it: it ends with its parent, and notes a result without reading all others.

For each result DVC parses and writes the whole of `dvc.lock`, in Python: with a hundred stages that takes longer than
many a stage. Here only the lines of the stage are written anew; they are the ones that DVC would write.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc.cli import main
from dvc.dvcfile import Lockfile
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml

from flows import PARENT
from flows.orchestration.processes import die_with_parent

HEADER = ("schema: '2.0'\n", "stages:\n")
INDENT = "  "
dump_stages: Callable[..., None] = Lockfile.dump_stages


def split_stages(text: str) -> dict[str, str] | None:
    """Split the text of `dvc.lock` into the lines of each stage, by the line with its name; None: not so laid out."""
    lines = text.splitlines(keepends=True)
    if tuple(lines[:2]) != HEADER or not text.endswith("\n"):
        return None
    stages: dict[str, str] = {}
    name = None
    for line in lines[2:]:
        if line.startswith(INDENT) and line[len(INDENT)] not in " -#?\n":
            name = line
            if name in stages or not name.endswith(":\n"):
                return None
            stages[name] = ""
        elif name is None or not line.startswith((INDENT, "\n")):
            return None
        else:
            stages[name] += line
    return stages


def write_stage(stage: Any, **options: Any) -> tuple[str, str]:
    """Write the line with a stage's name and the lines that follow it, as they stand in `dvc.lock`."""
    _, name, *rest = dumps_yaml({"stages": to_lockfile(stage, **options)}).splitlines(keepends=True)
    return name, "".join(rest)


def note_stages(lockfile: Lockfile, stages: list[Any], **options: Any) -> None:
    """Do what `Lockfile.dump_stages` does, in a time that hardly grows with the file, and in one step.

    It leaves a file that is not laid out as DVC does it, or not there, to DVC.
    """
    path = Path(lockfile.path)
    known = split_stages(path.read_text(encoding="utf-8")) if path.is_file() else None
    if known is None:
        dump_stages(lockfile, stages, **options)
        return
    noted = {**known, **dict(write_stage(stage, **options) for stage in stages)}
    if noted == known:
        return
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("".join([*HEADER, *(name + rest for name, rest in noted.items())]))
        Path(partial).chmod(path.stat().st_mode)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    lockfile.repo.scm_context.track_file(lockfile.relpath)


if __name__ == "__main__":
    die_with_parent(PARENT)
    patched: Any = Lockfile
    patched.dump_stages = note_stages
    sys.argv[0] = "dvc"
    sys.exit(main(sys.argv[1:]))
