"""Studies to be killed: a real one made small, and a toy whose stages do nothing but write as real ones do."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.pipeline import CHECKOUT, copy_checkout
from flows.params import load_yaml

REAL = {
    "images.digits.split": {"kind": "counts", "train": 200, "val": 100, "test": 100, "seed": 0},
    "zoo.digits.members.count": 24,
    "zoo.digits.epochs": 3,
    "zoo.digits.shard_size": 4,
    "weights.digits.alignment.max_sweeps": 2,
    "hyperrep.digits.training.steps": 40,
    "hyperrep.digits.training.validate_every": 4,
    "hyperrep.digits.training.batch_size": 8,
    "hyperrep.digits.training.validation_rows": 8,
}
"""What makes the quickstart small; the entries that this names are all that is left of it."""
TOY = {
    "images.digits.side": 28,
    "zoo.digits.members.count": 24,
    "zoo.digits.shard_size": 4,
    "weights.digits.zoo": "digits",
}

TOY_GRAPH = """
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
  weights:
    foreach: ${weights}
    do:
      cmd: exec python toy.py weights ${key}
      deps: ["data/zoo/${item.zoo}"]
      params: ["weights.${key}"]
      outs: ["data/weights/${key}"]
"""
TOY_STAGE = '''
"""Any stage: shards that are kept, then an output that replaces the old one, each written slowly."""

import shutil
import sys
import time

from flows.orchestration.stage import run_stage
from weightspace.record import read_record, replace_folder, write_record

STAGE = sys.argv.pop(1)
INPUTS = {"images": [], "zoo": ["images"], "weights": ["zoo"]}[STAGE]


def write_slowly(path, text):
    with path.open("w") as file:
        for part in text.partition(","):
            file.write(part)
            file.flush()
            time.sleep(0.01)


def make(name, config, root):
    inputs = {stage: read_record(root / "data" / stage / getattr(config, stage)) for stage in INPUTS}
    work = root / "data" / ".work" / STAGE / name
    work.mkdir(parents=True, exist_ok=True)
    shards = [work / f"{number}.parquet" for number in range(3)]
    for shard in shards:
        if not shard.exists():
            partial = shard.with_suffix(".partial")
            write_slowly(partial, f"{config.model_dump_json()} {shard.name}")
            partial.replace(shard)
    with replace_folder(root / "data" / STAGE / name) as folder:
        for shard in shards:
            write_slowly(folder / shard.name, shard.read_text())
        write_record(folder, STAGE, name, config, inputs)


run_stage(STAGE, make)
'''


def prepare_real(target: Path) -> None:
    """Copy the checkout with a small study of it in place of the quickstart."""
    copy_checkout(target)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_params(target, REAL)


def prepare_toy(target: Path) -> None:
    """Make a checkout with the toy study, whose stages take no time but that of starting."""
    (target / ".dvc").mkdir(parents=True)
    shutil.copyfile(CHECKOUT / ".dvc" / "config", target / ".dvc" / "config")
    (target / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    shutil.copyfile(CHECKOUT / ".dvcignore", target / ".dvcignore")
    (target / "dvc.yaml").write_text(TOY_GRAPH)
    (target / "toy.py").write_text(TOY_STAGE)
    (target / "flows").symlink_to(CHECKOUT / "flows")
    (target / "weightspace").symlink_to(CHECKOUT / "weightspace")
    write_params(target, TOY)


def write_params(target: Path, changes: dict[str, Any]) -> None:
    """Write the parameters of the quickstart as changes make them; JSON is YAML."""
    text = json.dumps(shrink_study(load_yaml(CHECKOUT / "params.yaml"), changes), indent=1)
    (target / "params.yaml").write_text(text + "\n")


def shrink_study(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Keep of a study only the entries that changes name by their dotted keys, changed so."""
    kept: dict[str, Any] = {section: {} if isinstance(value, dict) else value for section, value in params.items()}
    for place, value in changes.items():
        section, name, *inside, key = place.split(".")
        entry = kept[section].setdefault(name, params[section][name])
        for part in inside:
            entry = entry[part]
        assert key in entry, f"params.yaml has no {place}"
        entry[key] = value
    return kept


STUDIES = {"real": prepare_real, "toy": prepare_toy}
