"""Import a foreign zoo: read it, write it as a zoo of ours, prove it."""

import contextlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weightspace.config import BadInput
from weightspace.imports.config import Folder, HuggingFace, ImportConfig, ModelZoo, PreparedPt, SmallCnnZoo, WildPark
from weightspace.imports.folder import read_folder
from weightspace.imports.member import Reading
from weightspace.imports.metrics import Joiner
from weightspace.imports.prepared import read_prepared
from weightspace.imports.proof import ProofImages, join_proofs, prove_zoo, read_packed_images, read_test_images
from weightspace.imports.runs import read_hub, read_modelzoo
from weightspace.imports.small_cnn import read_small_cnn
from weightspace.imports.source import Source
from weightspace.imports.structure import Structure, StructureFinder, flatten_state
from weightspace.imports.wild_park import read_wild_park
from weightspace.imports.writer import Pending, ZooWriter
from weightspace.record import RECORD_NAME, Record, read_record, replace_folder, write_record

REPORT_NAME = "_import.json"
LISTED = 20
FEW = 4
"""Architectures that are named one by one."""
logger = logging.getLogger(__name__)


def import_zoo(name: str, config: ImportConfig, root: Path, target: Path, images: Path | None) -> list[dict[str, Any]]:
    """Import a foreign zoo into a folder; what was there before stays until the new one is whole.

    Args:
        root: what paths of the configuration are relative to.
        images: folder of an image set to prove the import on.

    Returns:
        The report of each zoo that was written: one, unless the configuration asks for a zoo of each architecture.

    Raises:
        BadInput: the source is damaged, hostile or does not fit together, or the disk is full.
    """
    check_target(root / config.path, target)
    record = read_record(images) if images is not None else None
    test = find_test_images(config, root, images)
    with contextlib.ExitStack() as scratch, replace_folder(target) as folder:
        reading = open_reading(config, root, scratch)
        about = describe_origin(config, record)
        writer = ZooWriter(folder, config.mixed, about, reading.numbers, reading.words)
        joiner = Joiner(getattr(config, "epoch_offset", None))
        found = copy_members(reading, writer, joiner)
        written = writer.close()
        if not written:
            raise BadInput(f"{root / config.path}: has no checkpoints of a {config.format} zoo")
        check_columns(getattr(config, "columns", ()), found)
        shared = describe_reading(config, reading, joiner)
        zoos = [written] if config.mixed == "keep" else [[one] for one in written]
        return [finish_zoo(name, config, zoo, shared, test, record) for zoo in zoos]


def check_target(source: Path, target: Path) -> None:
    """Make sure that nothing but an older zoo is replaced.

    Raises:
        BadInput: the target holds something else, or the source.
    """
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise BadInput(f"{target}: holds what is to be imported, wanted another folder")
    if not target.exists():
        return
    inside = list(target.iterdir()) if target.is_dir() else [target]
    zoos = (target / RECORD_NAME).is_file() or all((one / RECORD_NAME).is_file() for one in inside)
    if not zoos:
        raise BadInput(f"{target}: is there and is no zoo, wanted a new folder or a zoo to replace")


def check_columns(asked: Sequence[str], found: Collection[str]) -> None:
    """Make sure that every column that was asked for was met.

    Raises:
        BadInput: one was not.
    """
    for column in asked:
        if column not in found:
            raise BadInput(f"columns: {column!r} is in no member's metrics or configuration, wanted a number of these")


def find_test_images(config: ImportConfig, root: Path, images: Path | None) -> ProofImages | None:
    """Find images to prove an import on: those that are given, or those that a model zoo has beside its members."""
    if config.proof_members == 0:
        return None
    if images is not None:
        return read_test_images(images)
    packed = root / config.path / "dataset.pt"
    return read_packed_images(packed) if isinstance(config, ModelZoo) and packed.is_file() else None


def open_reading(config: ImportConfig, root: Path, scratch: contextlib.ExitStack) -> Reading:
    """Open the source of an import in its format."""
    path = root / config.path
    match config:
        case ModelZoo():
            return read_modelzoo(Source(path), config)
        case WildPark():
            return read_wild_park(Source(path), config, root)
        case HuggingFace():
            return read_hub(Source(path), config)
        case PreparedPt():
            return read_prepared(path)
        case SmallCnnZoo():
            return read_small_cnn(path, scratch, root / config.split_file if config.split_file else None)
        case Folder():
            return read_folder(Source(path), config, root)


def describe_origin(config: ImportConfig, images: Record | None) -> dict[str, Any]:
    """Say what all checkpoints of an import share."""
    about: dict[str, Any] = {"recipe": {"import": config.model_dump(mode="json")}}
    if images is not None:
        about["images"] = {"name": images.name, "digest": images.digest}
    return about


def copy_members(reading: Reading, writer: ZooWriter, joiner: Joiner) -> set[str]:
    """Hand every checkpoint of a source to the writer; returns the names of all properties and factors met."""
    finder = StructureFinder()
    found: set[str] = set()
    seen: dict[str, str] = {}
    for number, member in enumerate(reading.members, start=1):
        name = shorten_name(member.name, seen)
        metrics = joiner.join(name, list(member.checkpoints), member.metrics)
        for epoch, read in member.checkpoints.items():
            state = read()
            structure = finder.find(f"{name}, epoch {epoch}", state, member.wiring, member.padded)
            said = {**member.factors, **metrics.get(epoch, {})}
            found.update(said)
            writer.add(name, epoch, structure, flatten_state(structure, state), said)
        if number % 100 == 0:
            logger.info("imported %d members", number)
    return found


def shorten_name(name: str, seen: dict[str, str]) -> str:
    """Name a member by the last folder of its path, or by all of it where another has that name."""
    short = PurePosixPath(name).name or "only"
    return short if seen.setdefault(short, name) == name else name


def describe_reading(config: ImportConfig, reading: Reading, joiner: Joiner) -> dict[str, Any]:
    """Say what was read and how it was joined."""
    notes = [text if count == 1 else f"{text} ({count} times)" for text, count in reading.notes.items()]
    if joiner.unmeasured:
        notes.append(f"the last checkpoint has no metrics in {len(joiner.unmeasured)} members")
    return {
        "format": config.format,
        "path": config.path,
        "source": reading.describe(),
        "epoch_offset": joiner.found,
        "last_without_metrics": joiner.unmeasured[:LISTED],
        "notes": notes,
    }


def finish_zoo(
    name: str,
    config: ImportConfig,
    written: Sequence[Pending],
    shared: Mapping[str, Any],
    test: ProofImages | None,
    images: Record | None,
) -> dict[str, Any]:
    """Prove a zoo that was written, and write its report and record.

    Args:
        written: its checkpoints by structure; one, unless the architectures are kept together.
    """
    folder, names = written[0].folder, [one.structure.name for one in written]
    members = {member: False for one in written for member in one.members}
    for one in written:
        members |= {member: True for member, is_so in one.members.items() if is_so}
    diverged = [member for member, is_so in members.items() if is_so]
    report = {
        **shared,
        "network": ", ".join(names) if len(names) <= FEW else f"{len(names)} architectures",
        "members": len(members),
        "checkpoints": sum(one.checkpoints for one in written),
        "diverged_members": diverged[:LISTED],
        "num_diverged_members": len(diverged),
        "notes": [*shared["notes"], *describe_gaps([one.structure for one in written])],
        "proof": join_proofs([prove_zoo(folder, one.structure, test, config.proof_members) for one in written]),
    }
    (folder / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n")
    full_name = f"{name}/{names[0]}" if config.mixed == "split" else name
    write_record(folder, "zoo", full_name, config, {"images": images} if images is not None else {})
    return report


def describe_gaps(structures: Sequence[Structure]) -> list[str]:
    """Say which networks cannot be permuted, and why; each reason once."""
    gaps: dict[str, list[str]] = {}
    for structure in structures:
        if structure.gap is not None:
            gaps.setdefault(structure.gap, []).append(structure.name)
    which = {gap: "" if len(structures) == 1 else f" in {len(names)} architectures" for gap, names in gaps.items()}
    return [f"units cannot be permuted{which[gap]}, so members cannot be aligned: {gap}" for gap in gaps]
