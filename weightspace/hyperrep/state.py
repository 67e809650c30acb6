"""Keep what training needs to go on after it was killed, as one file that is either old or new."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from weightspace.hyperrep.model import Autoencoder

FILE_NAME = "state.safetensors"


@dataclass
class Progress:
    """How far training has come. What a step draws follows from its number, so no generator is kept."""

    step: int = 0
    """Steps done."""
    best_score: float = math.inf
    """What `keep_best` names, of the best model on validation members."""
    stale: int = 0
    """Validations since the best one."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row a validation."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Parameters at the best validation."""


def write_state(folder: Path, model: Autoencoder, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write parameters, optimizer and progress; the file takes the old one's place when it is whole."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in progress.best.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in slots.items()}
    plain = {name: value for name, value in vars(progress).items() if name != "best"}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE_NAME}"
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, {"progress": json.dumps(plain)})
    partial.replace(folder / FILE_NAME)


def read_state(folder: Path, model: Autoencoder, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Bring all three to where a killed training left them; without a state, leave them as they are."""
    path = folder / FILE_NAME
    if not path.is_file():
        return
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["progress"])
        for key in file.keys():  # noqa: SIM118  (not a mapping)
            group, _, name = key.partition("/")
            groups[group][name] = file.get_tensor(key)
    vars(progress).update(plain, best=groups["best"])
    model.load_state_dict(groups["model"])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimizer"].items():
        index, _, name = key.partition("/")
        slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
