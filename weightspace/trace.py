"""Walk back from a figure or an output to everything that it was made from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightspace.config import BadInput, digest_value
from weightspace.imports.info import find_damage, read_claims
from weightspace.record import Record

SHORT = 12
"""Digits that are shown of a digest."""
SECTIONS = {"reconstruction": "embeddings", "sweeps": "embeddings"}
"""Stages that sections of a report's figures come from, where they are not called alike."""


@dataclass(frozen=True)
class Origin:
    """One output on the way back."""

    record: Record
    problem: str | None
    """Why it cannot be what the outputs after it were made from; None if it can."""
    note: Mapping[str, Any]
    """When, where and from which code its stage last ran; empty where that is not known."""


def trace(target: Path, key: str | None) -> Iterator[str]:
    """Yield lines about a figure or an output, and about each output upstream of it.

    Args:
        target: folder of an output, or a JSON file with figures in one.
        key: dotted key of a figure in the file; None for no figure.

    Raises:
        BadInput: there is no such output, file or figure.
    """
    folder = target if target.is_dir() else target.parent
    record = read_claims(folder)
    wanted = None
    if key is not None:
        yield f"{key} = {read_figure(target, key)}"
        section = key.partition(".")[0]
        wanted = SECTIONS.get(section, section)
    origins = walk_back(folder.resolve().parents[1], folder, record, wanted)
    for origin in origins:
        yield from describe_origin(origin)
    wrong = sum(origin.problem is not None for origin in origins)
    yield f"{len(origins)} outputs, {f'{wrong} of them NOT as recorded' if wrong else 'all digests agree'}"


def read_figure(path: Path, key: str) -> float | str:
    """Read a figure by its dotted key; parts of the key may hold dots themselves.

    Raises:
        BadInput: the file is no JSON, or has no such figure.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: got no readable JSON, wanted a file with figures") from error
    rest = key
    while rest:
        names = list(value) if isinstance(value, dict) else []
        found = [name for name in names if rest == name or rest.startswith(f"{name}.")]
        if not found:
            raise BadInput(f"{path}: {key}: got {rest!r}, wanted {f'one of {names[:12]}' if names else 'nothing more'}")
        name = max(found, key=len)
        value, rest = value[name], rest[len(name) + 1 :]
    if isinstance(value, dict):
        raise BadInput(f"{path}: {key}: not one figure, wanted one of {', '.join(list(value)[:12])} after it")
    return value


def walk_back(data: Path, folder: Path, record: Record, wanted: str | None) -> list[Origin]:
    """Visit an output and, each once, all outputs upstream, nearest first.

    Args:
        data: folder with the outputs of the study.
        folder: the output to begin at.
        record: its record.
        wanted: follow only inputs of this stage from the first output, if it has any.
    """
    visited = {f"{record.stage}/{record.name}"}
    origins = [Origin(record, find_damage(folder, record), read_note(data, record))]
    chosen = {name: digest for name, digest in record.inputs.items() if name.partition("/")[0] == wanted}
    waiting = list((chosen or record.inputs).items())
    while waiting:
        name, digest = waiting.pop(0)
        if name in visited:
            continue
        visited.add(name)
        source = read_claims(data / name)
        problem = find_damage(data / name, source)
        if source.digest != digest:
            problem = f"has the digest {source.digest[:SHORT]}, but {digest[:SHORT]} was used"
        origins.append(Origin(source, problem, read_note(data, source)))
        waiting += source.inputs.items()
    return origins


def read_note(data: Path, record: Record) -> Mapping[str, Any]:
    """Read what was noted of the last run of an output's stage; empty if nothing was."""
    path = data / ".work" / "runs" / record.stage / f"{record.name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def find_seeds(config: Any, place: str = "") -> Iterator[str]:
    """Yield every seed in a configuration with its dotted key."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "seed" and isinstance(value, int):
                yield f"{place}seed {value}"
            else:
                yield from find_seeds(value, f"{place}{key}.")


def describe_origin(origin: Origin) -> Iterator[str]:
    """Yield lines that say what one output is, what made it, where and from what."""
    record, note = origin.record, origin.note
    yield f"{record.stage} {record.name}  {'NOT AS RECORDED' if origin.problem else 'intact'}"
    if origin.problem:
        yield f"  problem  {origin.problem}"
    seeds = ", ".join(find_seeds(record.config)) or "no seed"
    yield f"  digest   {record.digest[:SHORT]}, parameters {digest_value(record.config)[:SHORT]}, {seeds}"
    if note:
        commit = note["commit"] or "not in git"
        code = commit[:SHORT] + commit[40:] if note["commit"] else commit
        yield f"  last run {note['started']} on {note['host']}, {record.device}, code {code}"
    else:
        version = record.libraries["weightspace"]
        yield f"  last run not noted here; {record.device}, weightspace {version}, torch {record.libraries['torch']}"
    if record.inputs:
        yield "  from     " + ", ".join(f"{name} {digest[:SHORT]}" for name, digest in record.inputs.items())
