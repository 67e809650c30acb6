"""A study in a folder of its own, to be run through either door, ended, and looked at."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.pipeline import OF_THE_USER, PIPELINE, REPRO
from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import child_environment, die_with_parent
from weightspace.record import hash_file

DOORS = {"pipeline": PIPELINE, "pipeline with own server": PIPELINE, "dvc": REPRO}


@dataclass
class Project:
    """A study in a folder of its own that can be run, killed and looked at."""

    root: Path
    environment: dict[str, str]
    server: str
    """Address of the Prefect server for the door that has no server of its own."""
    faults: list[str] = field(default_factory=list)
    """What was found wrong so far, a line each."""

    def start(self, door: str) -> subprocess.Popen[bytes]:
        """Run the study through a door; what it says is in the file `log`. It ends with this process."""
        served = {API_URL: self.server} if door == "pipeline" else {}
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *DOORS[door]],
                cwd=self.root,
                env={**self.environment, **served},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def run(self, door: str) -> int:
        """Run the study to its end; returns the exit status."""
        return self.start(door).wait()

    def said(self, *words: str) -> bool:
        """Say whether what ran last said one of some words."""
        text = (self.root / "log").read_text(errors="replace")
        return any(word in text for word in words)

    def list_running(self) -> list[psutil.Process]:
        """List the processes that work in the project's folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def list_work(self) -> dict[str, tuple[int, int]]:
        """List finished shards with what tells whether a file was written anew."""
        shards = (self.root / "data/.work").glob("zoo/*/*.parquet")
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards}

    def digest(self) -> dict[str, str]:
        """Digest every file of every output, and `dvc.lock`."""
        names = [name for name in self.list_outputs() if name.is_file()]
        return {str(path.relative_to(self.root)): hash_file(path) for path in [*names, self.root / "dvc.lock"]}

    def list_outputs(self) -> Iterator[Path]:
        """Yield all that lies in the places of outputs."""
        for place in sorted((self.root / "data").glob("[!.]*/[!.]*")):
            yield from sorted(place.rglob("*"))

    def watch(self) -> int:
        """Digest what is on disk, cheaply: another number means that something changed."""
        seen = []
        for folder in ("data", ".dvc/tmp", ".dvc/cache", "."):
            for place, folders, files in os.walk(self.root / folder):
                if folder == ".":
                    folders.clear()
                for name in files:
                    with contextlib.suppress(OSError):
                        seen.append((place, name, (Path(place) / name).stat().st_mtime_ns))
        return hash(tuple(seen))


def copy_project(source: Path, target: Path, server: str) -> Project:
    """Copy a study that has not run; the copy shares nothing with it, nor with the user's own."""
    shutil.copytree(source, target, symlinks=True)
    kept = {name: value for name, value in child_environment().items() if name not in OF_THE_USER}
    own = {"DVC_SITE_CACHE_DIR": str(target.resolve() / ".dvc/tmp/site"), "OMP_NUM_THREADS": "1"}
    return Project(target.resolve(), {**kept, **own}, server)


@contextlib.contextmanager
def end_all_below(folder: Path) -> Iterator[None]:
    """End, when the block ends, what still runs in folders below one."""
    try:
        yield
    finally:
        left = [one for one in psutil.process_iter() if folder.resolve() in find_place(one).parents]
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left)


def find_place(process: psutil.Process) -> Path:
    """Find the folder that a process works in; the root where that cannot be seen."""
    try:
        return Path(process.cwd())
    except psutil.Error:
        return Path("/")
