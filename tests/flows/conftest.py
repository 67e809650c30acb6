"""A toy project: real stages, locks and caches of DVC around commands that take no time."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import save_file

from flows.orchestration.server import start_server
from flows.orchestration.settings import apply_settings

LIMIT_S = 600
"""Only to end a test that hangs; a busy machine is slow."""
BUSY = 503
CHECKOUT = Path(__file__).parents[2]
PARTS = ("flows", "tasks", "weightspace", "dvc.yaml", ".dvcignore", "pyproject.toml")

SIDES = ("train", "train", "val", "test")

PARAMS = """
root: .
images:
  a: &images
    source: {kind: digits}
    classes: 10
    side: 28
    fit: resize
    channels: 1
    split: {kind: counts, train: 100, val: 50, test: 50, seed: 0}
    normalize: {kind: train}
  b: *images
zoo:
  z:
    images: a
    architecture: cnn_s
    members: {kind: draw, count: 2, seed: 0, factors: {}}
    epochs: 1
    shard_size: 2
    engine: torch
    device: cpu
    train_metrics: after
imports: {}
weights: {}
hyperrep: {}
embeddings: {}
probes: {}
samples: {}
transfer: {}
report: {}
"""

GRAPH = """
stages:
  images:
    foreach: ${images}
    do:
      cmd: exec python toy.py images ${key}
      params: ["images.${key}"]
      outs: ["data/images/${key}"]
  zoo:
    foreach: ${zoo}
    do:
      cmd: exec python toy.py zoo ${key}
      deps: ["data/images/${item.images}"]
      params: ["zoo.${key}"]
      outs: ["data/zoo/${key}"]
      metrics:
        - data/figures/${key}.json:
            cache: false
"""

# A file called like a stage, in the folder `fail`, `bad` or `wait`, makes the stage do that.
STAGE = """
import sys
import time
from pathlib import Path

from flows.orchestration.nesting import observe
from flows.orchestration.stage import run_stage
from weightspace.config import BadInput


def shard(number):
    return number


def make(name, config, root):
    stage = sys.argv[0].removesuffix(".py") and STAGE
    with Path("ran").open("a") as file:
        file.write(f"{stage}@{name}\\n")
    if Path("wait", f"{stage}@{name}").exists():
        Path("waiting").write_text(str(__import__("os").getpid()))
        time.sleep(60)
    if Path("bad", f"{stage}@{name}").exists():
        raise BadInput("images.gz: 3 bytes,\\nwanted 16")
    if Path("fail", f"{stage}@{name}").exists():
        raise RuntimeError("a bug")
    if stage == "zoo":
        step = observe(shard)
        print([step(number) for number in range(2)])
        Path("data/figures").mkdir(parents=True, exist_ok=True)
        Path(f"data/figures/{name}.json").write_text('{"epochs": %d}' % config.epochs)
    folder = root / "data" / stage / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made").write_text(config.model_dump_json())


STAGE = sys.argv.pop(1)
run_stage(STAGE, make)
"""


@dataclass
class Toy:
    """A toy project in a folder of its own."""

    root: Path

    def write(self, path: str, text: str = "") -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def change(self, old: str, new: str) -> None:
        text = (self.root / "params.yaml").read_text()
        assert old in text
        self.write("params.yaml", text.replace(old, new))

    def ran(self) -> list[str]:
        """Which stages ran since last asked, in order."""
        log = self.root / "ran"
        names = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return names

    def wait_for(self, path: str) -> str:
        """Wait until a file has content, and read it."""
        for _ in range(10 * LIMIT_S):
            if (self.root / path).exists() and (text := (self.root / path).read_text()):
                return text
            time.sleep(0.1)
        raise TimeoutError(path)

    def list_processes(self) -> list[str]:
        """Which processes work in this folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.root):
                    found.append(" ".join(process.cmdline()))
        return found

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command)
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "dvc", *arguments)


def copy_code(project: Toy) -> None:
    """Turn a toy project into a checkout of this code, as after a clone, without parameters."""
    shutil.rmtree(project.root)
    project.root.mkdir()
    for part in PARTS:
        source, target = CHECKOUT / part, project.root / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    project.write(".dvc/config", (CHECKOUT / ".dvc" / "config").read_text())
    project.write(".dvc/config.local", "[core]\n    no_scm = true\n")


def ask_server(request: urllib.request.Request) -> Any:
    """Read what a Prefect server answers; asks again while its database is locked, as Prefect's own clients do."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code != BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give the address of a real Prefect server on loopback, with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.delenv(name, raising=False)
        checkout = tmp_path_factory.mktemp("server")
        (checkout / ".dvc").mkdir()
        apply_settings(checkout)
        server = start_server()
        assert server is not None
        server.wait()
        yield server.url
        server.stop()


@pytest.fixture
def checkout(toy: Toy) -> Toy:
    copy_code(toy)
    return toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "DVC_STAGE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    project = Toy(tmp_path / "toy")
    project.write("params.yaml", PARAMS)
    project.write("dvc.yaml", GRAPH)
    project.write("toy.py", STAGE)
    project.write(".dvc/config", (CHECKOUT / ".dvc" / "config").read_text())
    project.write(".dvc/config.local", "[core]\n    no_scm = true\n")
    return project


@pytest.fixture
def write_foreign():
    """Give a function that writes a made-up foreign zoo."""

    def write(folder, widths=(4, 6)):
        """Write twelve two-layer networks of two widths as safetensors, with a table of what is known of them."""
        folder.mkdir()
        rows = []
        for member in range(12):
            width = widths[member % 2]
            generator = torch.Generator().manual_seed(member)
            shapes = {"a.weight": (width, 5), "a.bias": (width,), "b.weight": (3, width), "b.bias": (3,)}
            state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
            save_file(state, folder / f"n{member}.safetensors")
            rows.append({"file": f"n{member}", "test_acc": member / 20, "published_split": SIDES[member // 2 % 4]})
        pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)

    return write
