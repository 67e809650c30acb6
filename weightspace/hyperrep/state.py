"""Keep what training needs to go on after it was killed, as one file that is either old or new."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weightspace.config import BadInput
from weightspace.hyperrep.model import Autoencoder

FILE_NAME = "state.safetensors"


@dataclass(frozen=True)
class Note:
    """What a training is, of which a state was kept."""

    origin: str
    """Digest of all that it follows from: configuration, preprocessing, layouts and code."""
    batch_size: int


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


def write_state(
    folder: Path, model: Autoencoder, optimizer: torch.optim.Optimizer, progress: Progress, note: Note
) -> None:
    """Write parameters, optimizer and progress; the file takes the old one's place when it is whole."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in progress.best.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in slots.items()}
    plain = {name: value for name, value in vars(progress).items() if name != "best"}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE_NAME}"
    said = {"progress": json.dumps(plain), "note": json.dumps(vars(note))}
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, said)
    partial.replace(folder / FILE_NAME)


def read_note(folder: Path) -> Note | None:
    """Read what training a state is of; None where there is none.

    Raises:
        BadInput: it is cut short.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return Note(**json.loads(file.metadata()["note"]))
    except (SafetensorError, KeyError) as error:
        raise BadInput(f"{path}: cannot be read ({error}), wanted the state of a training; delete it") from error


def read_state(
    folder: Path, model: Autoencoder, optimizer: torch.optim.Optimizer, progress: Progress, note: Note
) -> None:
    """Bring all three to where a killed training left them; without a state, leave them as they are.

    Raises:
        BadInput: the state is of another training.
    """
    path, found = folder / FILE_NAME, read_note(folder)
    if found is None:
        return
    if found != note:
        raise BadInput(
            f"{path}: is the state of a training with another configuration, preprocessing or code, wanted that "
            f"of {note.origin[:8]}, not {found.origin[:8]}; delete it or give another folder"
        )
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
