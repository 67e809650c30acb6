"""Read the parameters of a study and check that they fit together; the only reader of YAML."""

import difflib
import re
from collections.abc import Iterator, Sequence
from os.path import normpath
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from weightspace.config import BadInput, Config
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.images.config import ImagesConfig
from weightspace.imports.config import NO_IMAGES, Folder, ImportConfig, SmallCnnZoo, WildPark
from weightspace.probes.config import ProbesConfig
from weightspace.report.config import ReportConfig
from weightspace.samples.config import SamplesConfig
from weightspace.transfer.config import TransferConfig
from weightspace.twins.config import TwinsConfig
from weightspace.weights.config import EVERY_ZOO, WeightsConfig
from weightspace.zoo.config import ZooConfig

PARAMS_NAME = "params.yaml"
ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Study(Config):
    """Everything a study says: for each stage, its entries by name."""

    root: str
    """The checkout with the code, relative to the study's folder; `dvc.yaml` finds the code through it."""
    images: dict[str, ImagesConfig]
    zoo: dict[str, ZooConfig]
    imports: dict[str, ImportConfig]
    """Zoos that come from elsewhere; whatever names a zoo may name one of these."""
    twins: dict[str, TwinsConfig] = Field(default_factory=dict)
    """Sparse twins of a zoo, which are a zoo as well; a study without any need not say so, nor does `dvc.yaml` ask."""
    weights: dict[str, WeightsConfig]
    hyperrep: dict[str, HyperrepConfig]
    embeddings: dict[str, EmbeddingsConfig]
    probes: dict[str, ProbesConfig]
    samples: dict[str, SamplesConfig]
    transfer: dict[str, TransferConfig]
    report: dict[str, ReportConfig]


STAGES = tuple(name for name in Study.model_fields if name != "root")
FOLDERS = {"imports": "zoo", "twins": "zoo"}
"""Stages whose outputs lie in the folder of another."""
UNREADABLE = (YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What ruamel.yaml raises besides errors with a mark: for control characters, impossible dates, odd tags."""
TAGS = ("kind", "format")
"""Keys that tell the variants of a union apart."""
NO_ENTRY = {
    ("weights", "zoo"): EVERY_ZOO,
    ("imports", "images"): NO_IMAGES,
    ("hyperrep", "images"): NO_IMAGES,
    ("embeddings", "images"): NO_IMAGES,
}
"""What a key may say instead of the name of an entry."""


def read_study(folder: Path) -> Study:
    """Read and check the study of a folder.

    Raises:
        BadInput: the file is missing or not YAML, a key or value is wrong, or an entry names another that is not there.
    """
    path = folder / PARAMS_NAME
    raw = load_yaml(path)
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: got {describe_value(raw)}, wanted the sections root, {', '.join(STAGES)}")
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"{path}: {describe_problem(error, raw)}") from error
    for problem in find_bad_names(study):
        raise BadInput(f"{path}: {problem}")
    return study


def make_folders(folder: Path) -> None:
    """Make the folder of each stage; the report depends on all, also on those that this study makes nothing for."""
    for stage in STAGES:
        (folder / "data" / FOLDERS.get(stage, stage)).mkdir(parents=True, exist_ok=True)


def load_yaml(path: Path) -> Any:
    """Load a YAML file as DVC does: version 1.2 (`1e-3` is a number), no key twice.

    Raises:
        BadInput: the file is missing or is not YAML.
    """
    if not path.is_file():
        raise BadInput(f"{path}: missing, wanted the parameters of a study")
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        problem = " ".join((error.problem or "cannot be read").split())
        raise BadInput(f"{path}:{line} {problem}, wanted YAML") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8 text, wanted YAML") from error
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:100] or type(error).__name__
        raise BadInput(f"{path}: cannot be read ({why}), wanted YAML") from error


def describe_problem(error: ValidationError, raw: dict[str, Any]) -> str:
    """Say in one line what is wrong; a key that nobody knows comes before one that is missing for it."""
    problems = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    problem = problems[0]
    # pydantic marks a key that is wrong itself, rather than what it leads to.
    place = tuple(part for part in problem["loc"] if part != "[key]")
    kind, context = problem["type"], problem.get("ctx", {})
    key = join_keys(place, raw)
    if kind == "extra_forbidden":
        known = sorted(find_keys(Study, place[:-1]))
        return f"{key}: unknown key, wanted {suggest(str(place[-1]), known)}"
    if kind == "missing":
        return f"{key}: missing, wanted a value"
    got = describe_value(problem["input"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(context["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return f"{key}.{tag}: missing, wanted one of {', '.join(list_tags(Study, place))}"
        return f"{key}.{tag}: got {context['tag']!r}, wanted one of {context['expected_tags']}"
    if kind == "literal_error":
        return f"{key}: got {got}, wanted {context['expected']}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: got {got}, wanted: {message.removeprefix('Input should be ')}"


def describe_value(value: Any) -> str:
    """Show a value on one line, short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def suggest(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Name the known word that looks most like this one, or all of them."""
    close = difflib.get_close_matches(word, list(known), n=1)
    listed = ", ".join(known) or "nothing (there is none)"
    return f"{close[0]!r}? (known: {listed})" if close else f"one of {listed}"


def join_keys(place: Sequence[str | int], raw: Any) -> str:
    """Join a place to a dotted key, without the tags that pydantic puts in for the variants of a union."""
    keys: list[str] = []
    for number, key in enumerate(place):
        inside: dict[Any, Any] = dict(enumerate(raw)) if isinstance(raw, list) else raw if isinstance(raw, dict) else {}
        is_tag = key not in inside and (number < len(place) - 1 or not isinstance(raw, dict))
        if not is_tag:
            keys.append(str(key))
            raw = inside.get(key)
    return ".".join(keys)


def list_variants(kind: Any) -> list[Any]:
    """List what an annotation allows, unwrapping unions."""
    if get_origin(kind) is Annotated:
        return list_variants(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [variant for part in get_args(kind) for variant in list_variants(part)]
    return [kind]


def step_into(kind: Any, key: str | int) -> list[Any]:
    """List the annotations that a key leads to; a union's tag leads to its variant."""
    found = []
    for variant in list_variants(kind):
        arguments = get_args(variant)
        if isinstance(variant, type) and issubclass(variant, BaseModel):
            if key in read_tags(variant):
                found.append(variant)
            elif key in variant.model_fields:
                found.append(variant.model_fields[str(key)].annotation)
        elif get_origin(variant) is dict:
            found.append(arguments[1])
        elif arguments:
            found.append(arguments[0])
    return found


def walk(kind: Any, place: Sequence[str | int]) -> list[Any]:
    """List the variants that are allowed at a place."""
    kinds = [kind]
    for key in place:
        kinds = [found for kind in kinds for found in step_into(kind, key)]
    return [variant for kind in kinds for variant in list_variants(kind)]


def find_keys(kind: Any, place: Sequence[str | int]) -> set[str]:
    """Collect the keys that are allowed at a place."""
    models = (found for found in walk(kind, place) if isinstance(found, type) and issubclass(found, BaseModel))
    return {key for model in models for key in model.model_fields}


def read_tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """Read by which values a variant is told from the others of its union; none if it is no variant."""
    fields = [model.model_fields[key].annotation for key in TAGS if key in model.model_fields]
    return tuple(tag for kind in fields if get_origin(kind) is Literal for tag in get_args(kind))


def list_tags(kind: Any, place: Sequence[str | int]) -> list[str]:
    """List the values that tell the variants at a place apart."""
    return [tag for model in walk(kind, place) for tag in read_tags(model)]


def find_bad_names(study: Study) -> Iterator[str]:
    """Yield what is wrong with the names of entries, and with the entries that they name."""
    for stage in STAGES:
        entries: dict[str, Config] = getattr(study, stage)
        for name, entry in entries.items():
            if not ENTRY_NAME.fullmatch(name):
                yield f"{stage}.{name}: got the name {name!r}, wanted letters, digits, - and _ only"
            for section, key, other in list_references(entry):
                known = list_names(study, section)
                if other not in known and other != NO_ENTRY.get((stage, key)):
                    yield f"{stage}.{name}.{key}: got {other!r}, wanted an entry of {section}, {suggest(other, known)}"
            yield from find_conflicts(study, stage, name, entry)
    for name, entry in study.imports.items():
        if name in study.zoo:
            yield f"imports.{name}: got a name that is in zoo too, wanted another; both are written to data/zoo/{name}"
        yield from find_files_elsewhere(name, entry)
    for name, entry in study.twins.items():
        for other in [section for section in ("zoo", "imports") if name in getattr(study, section)]:
            taken = f"both are written to data/zoo/{name}"
            yield f"twins.{name}: got a name that is in {other} too, wanted another; {taken}"
        if entry.zoo in study.twins:
            yield f"twins.{name}.zoo: got {entry.zoo!r}, which are twins themselves, wanted an entry of zoo or imports"


def list_names(study: Study, section: str) -> dict[str, Config]:
    """List what may be named as an entry of a section: of zoos, also those that are imported."""
    sections = [own for own in STAGES if FOLDERS.get(own, own) == section]
    return {name: entry for own in sections for name, entry in getattr(study, own).items()}


def find_files_elsewhere(name: str, entry: ImportConfig) -> Iterator[str]:
    """Yield which files of an import lie outside its path, where DVC does not see them change."""
    files = {}
    if isinstance(entry, Folder) and entry.table is not None:
        files["table.path"] = entry.table.path
    if isinstance(entry, WildPark | SmallCnnZoo) and entry.split_file is not None:
        files["split_file"] = entry.split_file
    for key, file in files.items():
        if Path(normpath(entry.path)) not in Path(normpath(file)).parents:
            yield f"imports.{name}.{key}: got {file!r}, wanted a file inside {entry.path!r}, where DVC sees it change"


def list_references(entry: Config) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and name for each entry that this one names: by a field called like a section."""
    if isinstance(entry, ReportConfig):
        yield from (("embeddings", f"sweeps.{sweep}", name) for sweep, name in entry.list_swept())
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if key in STAGES:
            names = (value,) if isinstance(value, str) else value or ()
            yield from ((key, key, name) for name in names)
        elif isinstance(value, dict) and value and set(value) <= set(STAGES):
            yield from ((section, f"{key}.{section}", name) for section, names in value.items() for name in names)


def find_conflicts(study: Study, stage: str, name: str, entry: Config) -> Iterator[str]:
    """Yield where an entry names an input twice over, directly and through another, and the two differ.

    Free are the images of a transfer and those to score samples on, and the weights that a hyper-representation is used
    on: others than those it learned from are what they are for. Whether these pass off what it learned from as unseen
    is seen when they are embedded.
    """
    if isinstance(entry, ReportConfig):
        for sweep, embeddings in entry.list_swept():
            if embeddings in study.embeddings and not study.embeddings[embeddings].kept_networks:
                yield f"embeddings.{embeddings}.kept_networks: got 0, wanted more, as report.{name}.sweeps.{sweep} asks"
        return
    named = {section: other for section, _, other in list_references(entry)}
    for section, other in named.items():
        upstream = list_names(study, section).get(other)
        for shared, _, wanted in list_references(upstream) if upstream else ():
            free = section == "hyperrep" or (stage in ("transfer", "samples") and shared == "images")
            # Twins name the zoo that they are made of, and an import may name no images.
            free = free or shared == section or wanted == NO_ENTRY.get(("imports", shared))
            if shared in named and named[shared] != wanted and not free:
                yield f"{stage}.{name}.{shared}: got {named[shared]!r}, wanted {wanted!r}, which {section}.{other} uses"
