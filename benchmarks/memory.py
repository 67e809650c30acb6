"""Memory: a zoo far larger than memory, imported, aligned and learned from, each stage under a hard limit.

The zoo is made up, in the format of the Small CNN Zoo: random weights compress no better than trained ones. Each stage
runs as its users run it, in a process of its own. Where the machine has control groups that we may write to, the kernel
holds it to the limit; elsewhere its memory is only measured. `GIGABYTES` in the environment sets the zoo's size.
"""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flows.orchestration.processes import child_environment
from flows.params import STAGES, load_yaml

CHECKOUT = Path(__file__).parents[1]
LIMIT_BYTES = 4 * 2**30
GIGABYTES = float(os.environ.get("GIGABYTES", "20"))
EPOCHS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
SHAPES = ((16,), (3, 3, 1, 16), (16,), (3, 3, 16, 16), (16,), (3, 3, 16, 16), (10,), (16, 10))
MODULES = ("conv2d", "conv2d_1", "conv2d_2", "dense")
HEAD = [
    "modeldir",
    "step",
    "train_accuracy",
    "test_accuracy",
    "train_loss",
    "test_loss",
    "config.activation",
    "config.learning_rate",
]
STEPS = 100
SAMPLE_EVERY_S = 0.2
GROUPS = Path("/sys/fs/cgroup/memory")
IMPORT = {
    "format": "small_cnn_zoo",
    "path": "source",
    "mixed": "refuse",
    "images": ".",
    "proof_members": 0,
    "split_file": None,
}


def measure() -> dict[str, float]:
    """Measure every figure, and print a table of them."""
    figures = {"zoo_gb": GIGABYTES, "limit_gib": LIMIT_BYTES / 2**30}
    with tempfile.TemporaryDirectory(dir=CHECKOUT / "data") as folder, limit_memory(LIMIT_BYTES) as group:
        study = Path(folder)
        (study / "params.yaml").write_text(json.dumps(write_params()))
        write_zoo(study / "source", round(GIGABYTES * 1e9 / 4 / sum(map(np.prod, SHAPES)) / len(EPOCHS)))
        for stage, module in (("import", "zoo"), ("align", "weights"), ("train", "hyperrep")):
            figures |= run_stage(stage, module, study, group)
            shutil.rmtree(study / "source", ignore_errors=True)
    print(f"limit held by the kernel: {'yes' if group else 'no, measured only'}")
    for name, value in figures.items():
        print(f"{name:24} {value:10.2f}")
    return figures


def write_params() -> dict[str, Any]:
    """Say the study: the quickstart's way to prepare and learn, a few steps of it, on the imported zoo."""
    quickstart = load_yaml(CHECKOUT / "params.yaml")
    weights, hyperrep = quickstart["weights"]["digits"], quickstart["hyperrep"]["digits"]
    weights |= {"zoo": "big", "epochs": {"kind": "range", "first": 1, "last": None, "every": 1}}
    weights["alignment"]["reference"] = {"kind": "first"}
    hyperrep |= {"weights": "big", "images": ".", "tokens": {"kind": "sparse", "d_token": 145}}
    hyperrep["training"]["steps"] = STEPS
    made = {"imports": {"big": IMPORT}, "weights": {"big": weights}, "hyperrep": {"big": hyperrep}}
    return {**{stage: {} for stage in STAGES}, **made, "root": str(CHECKOUT)}


def write_zoo(folder: Path, members: int) -> None:
    """Write a zoo of random weights as the Small CNN Zoo is published, a member's epochs far apart from each other."""
    folder.mkdir()
    widths = [int(np.prod(shape)) for shape in SHAPES]
    stops = np.cumsum(widths).tolist()
    names = [f"sequential/{module}/{kind}:0" for module in MODULES for kind in ("bias", "kernel")]
    with (folder / "layout.csv").open("w", newline="") as file:
        rows = [
            (name, stop - width, stop, str(shape))
            for name, stop, width, shape in zip(names, stops, widths, SHAPES, strict=True)
        ]
        csv.writer(file).writerows([("varname", "start_idx", "end_idx", "shape"), *rows])
    generator = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(
        folder / "weights.npy", "w+", np.float32, shape=(members * len(EPOCHS), stops[-1])
    )
    start = generator.standard_normal((members, 1), dtype=np.float32) * 0.01
    with gzip.open(folder / "metrics.csv.gz", "wt", compresslevel=1, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for number, epoch in enumerate(EPOCHS):
            for first in range(0, members, 4096):
                stop = min(first + 4096, members)
                block = matrix[number * members + first : number * members + stop]
                block[:] = generator.standard_normal(block.shape, dtype=np.float32) * 0.1 + start[first:stop]
                writer.writerows((f"/runs/{i}", epoch, 0.5, 0.5, 1.0, 1.0, "relu", 0.01) for i in range(first, stop))
    matrix.flush()


@contextmanager
def limit_memory(limit: int) -> Iterator[Path | None]:
    """Make a control group that may use so many bytes, page cache and all; None where we may not."""
    group = GROUPS / f"weightspace.{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


def run_stage(stage: str, module: str, study: Path, group: Path | None) -> dict[str, float]:
    """Run one stage to its end; returns its seconds, and the most memory of its own that it had.

    Raises:
        RuntimeError: it failed, or the kernel ended it for want of memory.
    """

    def join_group() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    started, peak = time.monotonic(), 0
    command = [sys.executable, "-m", f"flows.{module}", "big"]
    process = subprocess.Popen(command, cwd=study, env=child_environment(), preexec_fn=join_group)
    while process.poll() is None:
        peak = max(peak, measure_own(process.pid))
        time.sleep(SAMPLE_EVERY_S)
    if process.returncode != 0:
        raise RuntimeError(f"{stage} ended with status {process.returncode}")
    return {f"{stage}_s": time.monotonic() - started, f"{stage}_peak_gib": peak / 2**30}


def measure_own(pid: int) -> int:
    """Return the bytes that a process keeps in memory and that no file backs; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
