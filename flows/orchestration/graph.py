"""Ask DVC, inside this process, for the graph, for what changed, and for outputs that were lost.

DVC's objects are not safe in threads, so that one lock guards them all. Other DVC processes write `dvc.lock` in place,
so that even to read it takes DVC's own lock. The working directory has to be the study's folder: DVC names stages
relative to it.
"""

import json
import logging
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import networkx as nx
import psutil
from dvc.dependency import param as dvc_params
from dvc.dvcfile import LOCK_FILE, PROJECT_FILE, Lockfile
from dvc.exceptions import CheckoutError, DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo, lock_repo
from dvc.repo.index import Index
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

from weightspace.config import BadInput

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

logger = logging.getLogger(__name__)
dvc_lock = threading.Lock()


class Busy(Exception):
    """Another DVC process holds what a stage needs; later it may not."""


Graph = dict[str, list[str]]
"""Names of stages in an order that works, each with those that it needs."""


@dataclass(frozen=True)
class Part:
    """A part of a graph, with all that it needs, and which of its stages count as changed."""

    graph: Graph
    forced: Collection[str] = ()


class Out(TypedDict):
    """One output as `dvc.lock` has it."""

    path: str
    hash: str | None
    bytes: int | None


@contextmanager
def open_repository(patient: bool = True) -> Iterator[Repo]:
    """Open and lock the DVC repository of the working directory.

    Args:
        patient: whether to wait as long as another process holds it, or give up after some seconds.

    Raises:
        Busy: another process holds it, and we are not patient.
    """
    with dvc_lock, Repo() as repository, ExitStack() as held:
        while True:
            try:
                held.enter_context(lock_repo(repository))
                break
            except LockError as error:
                if not patient:
                    raise Busy(" ".join(str(error).split())) from error
                logger.warning("waiting for another DVC process, which holds %s", repository.lock.lockfile)
        yield repository


def mend_lock_file(repository: Repo) -> None:
    """Put `dvc.lock` aside if a DVC process was killed while it wrote it, which it does in place.

    It only says what DVC would find out again: without it every result comes back from the run cache.

    Raises:
        BadInput: it has both sides of a merge.
    """
    lock = Path(LOCK_FILE)
    try:
        Lockfile(repository, str(lock.resolve())).load()
    except DvcException as error:
        if "<<<<<<<" in lock.read_text(encoding="utf-8", errors="replace"):
            raise BadInput(f"{lock}: it has both sides of a merge, wanted one") from error
        assert repository.tmp_dir
        aside = Path(repository.tmp_dir) / f"{LOCK_FILE}.broken"
        lock.replace(aside)
        logger.warning(
            "%s was cut short, by a kill perhaps; it is now %s, and results come back from the cache", lock, aside
        )


def mend_path_locks(folder: Path) -> None:
    """Drop the file with DVC's locks of paths if it was cut short, or those locks whose process is gone.

    DVC sees itself when no process has the number of a lock's owner, but not when another has got it since.

    Raises:
        Busy: another process is writing it.
    """
    path = folder / RWLOCK_FILE
    try:
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):
            if not path.is_file():
                return
            try:
                owners = list_owners(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, AttributeError):
                owners = []
            if not any(is_owner(pid, path.stat().st_mtime) for pid in owners):
                path.unlink()
    except LockError as error:
        raise Busy(" ".join(str(error).split())) from error


def list_owners(locks: dict[str, dict[str, Any]]) -> list[int]:
    """List the processes that hold a lock: one for a path that is written, some for one that is read."""
    writers = locks.get("write", {}).values()
    readers = [reader for some in locks.get("read", {}).values() for reader in some]
    return [owner["pid"] for owner in [*writers, *readers]]


def is_owner(pid: int, written_s: float) -> bool:
    """Say whether the process that wrote its number into a file at some time is still there."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= written_s and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_graph() -> Graph:
    """List the stages of the working directory in an order that works, each with what it needs.

    What a DVC process left that was killed while it wrote one of its files is put right first.

    Raises:
        BadInput: DVC cannot read the graph.
        Busy: another process is at one of the files.
    """
    with open_repository() as repository:
        return order_stages(read_stages(repository))


def survey(choose: Callable[[Graph], Part]) -> tuple[Part, dict[str, list[Out]]]:
    """Read the graph, take a part of it, and find what in that did not change; DVC reads its files once for both.

    Raises:
        BadInput: DVC cannot read the graph.
        Busy: another process is at one of the files.
    """
    with open_repository() as repository, parse_parameters_once():
        stages = read_stages(repository)
        part = choose(order_stages(stages))
        return part, list_unchanged(stages, part)


def read_stages(repository: Repo) -> nx.DiGraph:
    """Read the graph of stages, each with edges to what it needs; see `read_graph`."""
    assert repository.tmp_dir
    mend_path_locks(Path(repository.tmp_dir))
    try:
        try:
            return read_index(repository).graph
        except DvcException:
            mend_lock_file(repository)
            return read_index(repository).graph
    except DvcException as error:
        raise BadInput(f"{PROJECT_FILE}: {error}") from error


def order_stages(stages: nx.DiGraph) -> Graph:
    """Name the stages in an order that works, each with the names of what it needs."""
    order = list(nx.topological_sort(stages.reverse()))
    return {stage.addressing: [need.addressing for need in stages.successors(stage)] for stage in order}


def list_unchanged(stages: nx.DiGraph, part: Part) -> dict[str, list[Out]]:
    """List the stages of a part that neither changed themselves nor need one that did, each with what it last made.

    Where another process is in the way, a stage is to be looked at in its turn.
    """
    unchanged: dict[str, list[Out]] = {}
    by_name = {stage.addressing: stage for stage in stages}
    for name, needs in part.graph.items():
        # One that cannot be looked at is no reason to spoil the run of others.
        with suppress(DvcException):
            if name not in part.forced and unchanged.keys() >= set(needs) and not by_name[name].changed():
                unchanged[name] = describe_outs(by_name[name])
    return unchanged


def read_index(repository: Repo) -> Index:
    """Read the stages of the working directory.

    DVC's own index of a repository has those of all studies, hundreds of them, which takes seconds.
    """
    # Not resolved: a study's file is a link, and its stages lie where the link does.
    return Index.from_file(repository, str(Path(PROJECT_FILE).absolute()))


def find_stage(repository: Repo, name: str) -> "Stage":
    """Find a stage by its name, such as `zoo@digits`."""
    (stage,) = repository.stage.collect(name)
    return stage


def is_changed(name: str) -> bool:
    """Say whether DVC would run a stage: something about it is not as `dvc.lock` has it.

    Raises:
        Busy: another process holds its files.
    """
    with open_repository(patient=False) as repository:
        try:
            return find_stage(repository, name).changed()
        except LockError as error:
            raise Busy(" ".join(str(error).split())) from error


@contextmanager
def parse_parameters_once() -> Iterator[None]:
    """Have DVC parse a file of parameters once within the block, and not for each stage that depends on it."""
    parse, parsed = dvc_params.load_path, {}

    def parse_once(path: str, *arguments: Any, **options: Any) -> Any:
        if path not in parsed:
            parsed[path] = parse(path, *arguments, **options)
        return parsed[path]

    dvc_params.load_path = parse_once
    try:
        yield
    finally:
        dvc_params.load_path = parse


def find_cache(folder: Path) -> Path:
    """Find the folder in which DVC keeps what the checkout in a folder has made."""
    with dvc_lock, Repo(str(folder)) as repository:
        return Path(repository.cache.local.path).resolve()


def list_outs(name: str) -> list[Out]:
    """List what a stage last made."""
    with open_repository() as repository:
        return describe_outs(find_stage(repository, name))


def describe_outs(stage: "Stage") -> list[Out]:
    """Describe what a stage last made."""
    return [
        {"path": out.def_path, "hash": read_hash(out), "bytes": out.meta.size if out.meta else None}
        for out in stage.outs
    ]


def read_hash(out: "Output") -> str | None:
    """Read the hash that `dvc.lock` has of an output; None if it has none."""
    return out.hash_info.value if out.hash_info else None


def restore_outputs(name: str) -> None:
    """Bring back what a stage last made, from DVC's cache; DVC removes it before it runs the stage anew."""
    with open_repository() as repository:
        for out in find_stage(repository, name).outs:
            if read_hash(out) and not out.exists and not restore_output(out):
                logger.warning("%s: the earlier output is not in DVC's cache and could not be brought back", out)


def restore_output(out: "Output") -> bool:
    """Bring back one output as it last was; says whether it could."""
    if out.use_cache:
        try:
            out.checkout(force=True)
        except CheckoutError:
            return False
        return True
    # DVC leaves to git what it does not cache, but keeps a copy to skip runs with.
    kept = Path(out.cache.oid_to_path(read_hash(out)))
    if kept.is_file():
        Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, out.fs_path)
    return kept.is_file()
