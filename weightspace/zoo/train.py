"""Train the members of a factor table with the engine that fits."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from weightspace.config import BadInput
from weightspace.images.image_set import ImageSet, PreparedImages
from weightspace.networks import Architecture
from weightspace.zoo.torch_engine import train_members_torch
from weightspace.zoo.training import PROPERTIES, Recipe, TrainMembers, Trajectory

RECIPE_FACTORS = ["activation", "optimizer", "batch_size"]
"""What decides a recipe most; shards are cut in their order."""


def choose_engine(name: str, device: torch.device) -> TrainMembers:
    """Return the engine of a name; `auto` takes the fastest for the device.

    Raises:
        BadInput: no such engine, or it does not run on the device.
    """
    if name == "auto":
        name = "fused_cpu" if device.type == "cpu" else "torch"
    if name == "torch":
        return train_members_torch
    if name == "fused_cpu" and device.type == "cpu":
        from weightspace.zoo.fused_cpu import train_members_fused  # Numba takes a second to import

        return train_members_fused
    raise BadInput(f"engine: got {name!r} on device {device}, wanted auto, torch, or fused_cpu on cpu")


def list_shared(train: TrainMembers) -> list[str]:
    """Return the factors that members of one call of an engine must share.

    The fused engine mixes optimizers and batch sizes: that leaves fewer lanes of its vectors empty.
    """
    return [*RECIPE_FACTORS, "augmentation"] if train is train_members_torch else ["activation", "augmentation"]


def make_recipe(factors: pd.DataFrame, num_images: int) -> Recipe:
    """Gather the factors of members that share an activation; where optimizers or batch sizes differ, as an array."""
    first = factors.iloc[0]
    same = {name: bool((factors[name] == first[name]).all()) for name in ("optimizer", "batch_size")}
    fraction = factors["train_fraction"].to_numpy(float)
    return Recipe(
        activation=first["activation"],
        optimizer=first["optimizer"] if same["optimizer"] else factors["optimizer"].to_numpy(str),
        batch_size=int(first["batch_size"]) if same["batch_size"] else factors["batch_size"].to_numpy(np.int64),
        seed=factors["seed"].to_numpy(np.int64),
        lr=factors["lr"].to_numpy(float),
        weight_decay=factors["weight_decay"].to_numpy(float),
        dropout=factors["dropout"].to_numpy(float),
        num_train=np.maximum(1, np.round(fraction * num_images)).astype(np.int64),
        schedule=factors["schedule"].to_numpy(str) if "schedule" in factors else "constant",
        label_noise=factors["label_noise"].to_numpy(float) if "label_noise" in factors else 0.0,
        augmentation=first.get("augmentation", "none"),
    )


def train_table(
    architecture: Architecture,
    factors: pd.DataFrame,
    initial: Float32[torch.Tensor, "members weights"],
    images: PreparedImages,
    epochs: int,
    engine: str,
    device: torch.device,
    on_epoch: Callable[[int], None] | None = None,
) -> Trajectory:
    """Train members of any factors from given weights; members keep the table's order.

    Args:
        factors: a row a member, with the columns of `members.FACTORS`; those of `members.OPTIONAL` may lack.
        on_epoch: called with the number of members whose next epoch is done.
    """
    train = choose_engine(engine, device)
    weights = np.empty((len(factors), epochs + 1, initial.shape[1]), np.float32)
    properties = {name: np.empty((len(factors), epochs + 1), np.float32) for name in PROPERTIES}
    shared = [name for name in list_shared(train) if name in factors]
    for rows in factors.groupby(shared, sort=True).indices.values():
        rows = cast("np.ndarray", rows)
        recipe = make_recipe(factors.iloc[rows], len(images.train))

        def report(_: int, done: int = len(rows)) -> None:
            if on_epoch:
                on_epoch(done)

        part = train(architecture, recipe, initial[rows], images, epochs, device, report)
        weights[rows] = part.weights
        for name, values in part.properties.items():
            properties[name][rows] = values
    return Trajectory(weights, properties)


def check_images(architecture: Architecture, image_set: ImageSet, name: str) -> None:
    """Refuse images that an architecture cannot take.

    Raises:
        BadInput: their shape differs, or they have more classes than the network has logits.
    """
    if image_set.shape != architecture.image_shape:
        raise BadInput(
            f"images {name}: shape {image_set.shape}, but {architecture.name} takes {architecture.image_shape}"
        )
    if image_set.num_classes > architecture.num_classes:
        raise BadInput(
            f"images {name}: {image_set.num_classes} classes, but {architecture.name} tells {architecture.num_classes}"
        )
