"""Prove an import: rebuild a few members and measure again what the source says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.images.image_set import prepare_images, read_image_set
from weightspace.imports.prepared import STUBS
from weightspace.imports.structure import Structure
from weightspace.imports.unpickle import Stub, load_restricted
from weightspace.networks import ACTIVATIONS, Activation, Architecture, build_layout, run_networks
from weightspace.store import read_rows, read_table

TOLERANCE = 0.002
"""Difference of accuracies that rounding on another machine may make."""
TELLING = 2
"""An accuracy this many times that of guessing tells a right import from a wrong one."""
IMAGES_AT_ONCE = 1024


@dataclass(frozen=True)
class ProofImages:
    """Prepared images that accuracies are measured on."""

    source: str
    images: Float[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"]


def read_test_images(folder: Path) -> ProofImages:
    """Read the test images of an image set, prepared as that set says.

    Raises:
        BadInput: the image set is missing or damaged.
    """
    prepared = prepare_images(read_image_set(folder), torch.device("cpu"))
    return ProofImages(f"image set {folder.name}", prepared.test, prepared.test_labels)


def read_packed_images(path: Path) -> ProofImages:
    """Read the prepared test images that a model zoo has in its `dataset.pt`.

    Raises:
        BadInput: it is damaged, names what it may not, or has no test images.
    """
    found = load_restricted(path.name, path, STUBS)
    part = found.get("testset") if isinstance(found, dict) else None
    match part.__dict__.get("tensors") if isinstance(part, Stub) else None:
        case (Tensor() as images, Tensor() as labels) if images.ndim == 4 and labels.shape == images.shape[:1]:
            return ProofImages(path.name, images.float(), labels.long())
    raise BadInput(f"{path}: has no testset of images and labels, wanted those of a model zoo")


def prove_zoo(folder: Path, structure: Structure, test: ProofImages | None, num_members: int) -> dict[str, Any]:
    """Measure the test accuracy of some members again, each at its last epoch; or say why it cannot be done."""
    obstacle = find_obstacle(structure, test, num_members)
    if obstacle is not None:
        return {"proved": False, "why": obstacle}
    assert structure.architecture is not None
    assert test is not None
    _, table, _ = read_table(folder, structure.name)
    rows = choose_rows(table, num_members)
    if len(rows) == 0:
        return {"proved": False, "why": "no member has a known activation, a stored test accuracy and finite weights"}
    weights = torch.from_numpy(read_rows(folder, rows, structure.name))
    chosen = table.iloc[rows]
    checks = []
    for i in range(len(rows)):
        row = chosen.iloc[i]
        measured = measure_accuracy(structure.architecture, weights[i : i + 1], row["activation"], test)
        place = {"member": row["member"], "epoch": int(row["epoch"])}
        checks.append(place | {"stored": float(row["test_accuracy"]), "measured": measured})
    worst = max(abs(check["stored"] - check["measured"]) for check in checks)
    tolerance = max(TOLERANCE, 1.5 / len(test.images))
    shared = {"images": test.source, "checkpoints": checks}
    if not any(check["stored"] > TELLING / structure.architecture.num_classes for check in checks):
        return {"proved": False, "why": "no stored accuracy is above chance, which any network reaches", **shared}
    return {"proved": worst <= tolerance, "max_difference": worst, "tolerance": tolerance, **shared}


def join_proofs(proofs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join what was proved of each architecture of one zoo: those that could be measured must all agree."""
    measured = [proof for proof in proofs if "why" not in proof]
    if len(proofs) == 1 or not measured:
        return dict(proofs[0])
    joined = {
        "proved": all(proof["proved"] for proof in measured),
        "max_difference": max(proof["max_difference"] for proof in measured),
        "tolerance": max(proof["tolerance"] for proof in measured),
        "images": measured[0]["images"],
        "checkpoints": [check for proof in measured for check in proof["checkpoints"]],
    }
    left = [proof["why"] for proof in proofs if "why" in proof]
    return joined | ({"unproved": len(left), "unproved_first": left[0]} if left else {})


def find_obstacle(structure: Structure, test: ProofImages | None, num_members: int) -> str | None:
    """Say why nothing can be measured again; None if it can."""
    if test is None or num_members == 0:
        return "no images were given to measure on"
    known = structure.architecture
    if known is None:
        return (
            f"{structure.name} is not an architecture that can be run: strides, pooling and activations are not known"
        )
    shape, classes = tuple(test.images.shape[1:]), int(test.labels.max()) + 1
    fits = shape[0] == known.channels if known.takes_any_size else shape == known.image_shape
    if not fits or classes > known.num_classes:
        wanted = f"{known.name} takes {known.image_shape} and tells {known.num_classes} apart"
        return f"the images are {shape} of {classes} classes, {wanted}"
    return None


def choose_rows(table: pd.DataFrame, num: int) -> Int64[np.ndarray, " rows"]:
    """Choose the last whole checkpoints of some members: the best, and others down to the worst of the better half.

    Members near chance tell little.
    """
    fit = ~table["diverged"] & table["test_accuracy"].notna() & table["activation"].isin(list(ACTIVATIONS))
    last = table[fit].groupby("member", sort=True)["epoch"].idxmax()
    best = table.loc[last].sort_values(["test_accuracy", "member"], ascending=[False, True]).index.to_numpy(np.int64)
    places = np.linspace(0, max(len(best) // 2, num) - 1, num).round().astype(int)
    return best[np.unique(places[places < len(best)])]


@torch.no_grad()
def measure_accuracy(
    architecture: Architecture,
    weights: Float32[Tensor, "members weights"],
    activation: Activation,
    test: ProofImages,
) -> float:
    """Measure the share of test images that one member gets right."""
    tensors = build_layout(architecture).split(weights)
    parts = test.images.split(IMAGES_AT_ONCE)
    found = torch.cat([run_networks(architecture, tensors, part, activation)[0].argmax(-1) for part in parts])
    return float((found == test.labels).double().mean())
