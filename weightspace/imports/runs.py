"""Read zoos that keep a folder for each member: Ray folders, the Wild Park, Hugging Face."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor

from weightspace.config import BadInput
from weightspace.imports.config import HuggingFace, ModelZoo
from weightspace.imports.member import Member, Metrics, Reading
from weightspace.imports.metrics import name_factors, name_properties, read_lines, read_progress
from weightspace.imports.source import Entry, Source
from weightspace.imports.state import drop_variances, read_state

CONFIGS = ("params.json", "config.json")
TELLING = (*CONFIGS, "result.json", "progress.csv")
RAY = re.compile(r"(?:(?P<run>.*)/)?checkpoint_(?P<number>\d+)/(?P<file>[^/]+)")
NUMBERED = re.compile(r"(?:(?P<stem>.*?)[-_.])?(?:checkpoint|global_step|epoch|step|ep)[-_]?(?P<number>\d+)")
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
NOT_WEIGHTS = re.compile(r"(optimizer|scheduler|scaler|rng_state.*|training_args|dataset)(\.\w+)?")
USUAL = re.compile(r"(model|pytorch_model|adapter_model|weights|checkpoints?)(-\d+-of-\d+)?(\.\w+)?")


@dataclass(frozen=True)
class Spot:
    """Where a file belongs."""

    run: str
    number: int | None
    """Of the checkpoint; None for a file that tells of the whole run."""


@dataclass
class Run:
    """The files of one member."""

    checkpoints: dict[int, list[Entry]] = field(default_factory=dict)
    telling: dict[str, Entry] = field(default_factory=dict)


def place_ray(name: str, file: str) -> Spot | None:
    """Place a file of a Ray folder whose checkpoints are called `file`."""
    match = RAY.fullmatch(name)
    if match is not None:
        return Spot(match["run"] or "", int(match["number"])) if match["file"] == file else None
    return place_telling(name)


def place_telling(name: str) -> Spot | None:
    """Place a file that tells of a run."""
    path = PurePosixPath(name)
    return Spot(parent_of(path), None) if path.name in TELLING else None


def parent_of(path: PurePosixPath) -> str:
    """Return the folder of a file; empty for the top."""
    parent = path.parent.as_posix()
    return "" if parent == "." else parent


def place_hub(name: str) -> Spot | None:
    """Place a file of a folder of models, by the number in its name or in that of a folder, if there is one."""
    path = PurePosixPath(name)
    weights = path.name == "checkpoints" or path.name.endswith(WEIGHT_FILES)
    if not weights or NOT_WEIGHTS.fullmatch(path.name):
        return place_telling(name)
    for depth in range(len(path.parts) - 2, -1, -1):
        match = NUMBERED.fullmatch(path.parts[depth])
        if match is not None:
            return Spot("/".join([*path.parts[:depth], *filter(None, [match["stem"]])]), int(match["number"]))
    match = NUMBERED.fullmatch(path.stem)
    if match is not None:
        return Spot("/".join(filter(None, [parent_of(path), match["stem"]])), int(match["number"]))
    return Spot(parent_of(path) if USUAL.fullmatch(path.name) else path.with_suffix("").as_posix(), 0)


def group_runs(source: Source, place: Callable[[str], Spot | None], notes: Counter[str]) -> Iterator[tuple[str, Run]]:
    """Yield each run with its files, as soon as all were met.

    Raises:
        BadInput: files of a run stand apart in an archive that is read in one pass.
    """
    runs: dict[str, Run] = {}
    done: set[str] = set()
    current: str | None = None
    for entry in source.entries(lambda name: place(name) is not None):
        spot = place(entry.name)
        assert spot is not None
        if current is not None and spot.run != current and runs[current].checkpoints:
            done.add(current)
            yield current, runs.pop(current)
        current = spot.run
        if current in done:
            raise BadInput(f"{source.path}: the files of {current} stand apart, wanted each member's together")
        run = runs.setdefault(current, Run())
        if spot.number is None:
            run.telling[PurePosixPath(entry.name).name] = entry
        else:
            run.checkpoints.setdefault(spot.number, []).append(entry)
    yield from ((name, run) for name, run in runs.items() if run.checkpoints)
    empty = [name for name, run in runs.items() if not run.checkpoints and "result.json" in run.telling]
    notes.update({"runs without checkpoints were left out": len(empty)} if empty else {})


def read_modelzoo(source: Source, config: ModelZoo) -> Reading:
    """Read a zoo in the format of the published model zoos."""
    notes: Counter[str] = Counter()

    def read_members() -> Iterator[Member]:
        for name, run in group_runs(source, partial(place_ray, file="checkpoints"), notes):
            metrics, factors = read_telling(name, run, config.columns)
            if not metrics:
                raise BadInput(f"{source.path}: {name} has no result.json or progress.csv, wanted metrics to join")
            load = partial(load_model_zoo, log_sigma2=config.log_sigma2, notes=notes)
            checkpoints = {number: partial(load, files) for number, files in sorted(run.checkpoints.items())}
            yield Member(name, checkpoints, metrics, factors, "by_name")

    return Reading(read_members(), numbers=config.columns, notes=notes, describe=source.describe)


def load_model_zoo(files: list[Entry], log_sigma2: str, notes: Counter[str]) -> dict[str, Tensor]:
    """Load a checkpoint of a published model zoo."""
    return drop_variances(files[0].name, load_files(files, notes), log_sigma2, notes)


def read_hub(source: Source, config: HuggingFace) -> Reading:
    """Read folders of safetensors or state dicts; metrics are read where there are some."""
    notes: Counter[str] = Counter()

    def read_members() -> Iterator[Member]:
        for name, run in group_runs(source, place_hub, notes):
            metrics, factors = read_telling(name, run, config.columns)
            checkpoints = {
                number: partial(load_files, files, notes) for number, files in sorted(run.checkpoints.items())
            }
            yield Member(name, checkpoints, metrics, factors, config.wiring)

    return Reading(read_members(), numbers=config.columns, notes=notes, describe=source.describe)


def load_files(files: list[Entry], notes: Counter[str]) -> dict[str, Tensor]:
    """Load a checkpoint that lies in one file, or in numbered parts of one.

    Raises:
        BadInput: there are several, and they are no parts.
    """
    tensors = [entry for entry in files if entry.name.endswith(".safetensors")] or files
    if all("-of-" in entry.name for entry in tensors):
        parts = [read_state(entry.name, entry.read(), notes) for entry in tensors]
        return {name: tensor for part in parts for name, tensor in part.items()}
    entry = one_of(tensors)
    return read_state(entry.name, entry.read(), notes)


def one_of(files: list[Entry]) -> Entry:
    """Return the only file of a checkpoint.

    Raises:
        BadInput: there are several.
    """
    if len(files) > 1:
        raise BadInput(f"{files[0].name} and {files[1].name} are the same checkpoint of one member, wanted one file")
    return files[0]


def read_telling(name: str, run: Run, columns: tuple[str, ...]) -> tuple[Metrics, dict[str, Any]]:
    """Read the metrics and factors of a run; `result.json` before `progress.csv`, `params.json` before the others."""
    rows: Mapping[int, Mapping[str, Any]] = {}
    if "result.json" in run.telling:
        entry = run.telling["result.json"]
        rows = read_lines(entry.name, entry.read())
    if not rows and "progress.csv" in run.telling:
        entry = run.telling["progress.csv"]
        rows = read_progress(entry.name, entry.read())
    said: Mapping[str, Any] = {}
    for file in CONFIGS:
        if not said and file in run.telling:
            said = read_config(run.telling[file])
    if not said and rows:
        nested = next(iter(rows.values())).get("config")
        said = nested if isinstance(nested, dict) else {}
    metrics = {iteration: name_properties(name, row, columns) for iteration, row in rows.items()}
    return metrics, name_factors(name, said, columns)


def read_config(entry: Entry) -> dict[str, Any]:
    """Read the configuration of a run.

    Raises:
        BadInput: it is no JSON object.
    """
    try:
        found = json.loads(entry.read())
    except ValueError as error:
        raise BadInput(f"{entry.name}: is not JSON, wanted the configuration of a run") from error
    if not isinstance(found, dict):
        raise BadInput(f"{entry.name}: holds {type(found).__name__}, wanted an object")
    return found
