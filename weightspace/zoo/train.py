"""Train the members of a factor table with the engine that fits."""

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int64

from weightspace.config import BadInput
from weightspace.images.image_set import ImageSet, PreparedImages
from weightspace.networks import Architecture
from weightspace.zoo.config import TrainMetrics
from weightspace.zoo.kinds import Network
from weightspace.zoo.members import count_images
from weightspace.zoo.together import check_last_batch
from weightspace.zoo.torch_engine import train_members_torch
from weightspace.zoo.training import Recipe, TrainMembers, Trajectory, make_trajectory

RECIPE_FACTORS = ["activation", "optimizer", "batch_size"]
"""What decides a recipe most; shards are cut in their order."""
FUSED = {"fused_cpu": "cpu", "fused_gpu": "cuda"}
"""The fused engines, each with the kind of device that it runs on; torch runs on any."""


def settle_engine(name: str, device: torch.device, network: Network, augmentations: Iterable[str] = ("none",)) -> str:
    """Return the engine that trains members: the one that is named, for `auto` the fastest measured one that can.

    Raises:
        BadInput: no engine has that name, or the one that has cannot train them.
    """
    augmentations = list(augmentations)
    if name == "auto":
        return "torch" if find_obstacle("fused_cpu", device, network, augmentations) else "fused_cpu"
    obstacle = None if name == "torch" else find_obstacle(name, device, network, augmentations)
    if obstacle:
        raise BadInput(f"engine: got {name!r} {obstacle}")
    return name


def find_obstacle(name: str, device: torch.device, network: Network, augmentations: list[str]) -> str | None:
    """Say what a fused engine cannot train, and what can; None: it trains all."""
    if not isinstance(network, Architecture):
        return f"for {network.name}, wanted torch, which trains such networks, or auto"
    for augmentation in augmentations:
        if augmentation != "none":
            return f"for the augmentation {augmentation!r}, wanted torch, which changes images, or auto"
    if FUSED.get(name) != device.type:
        return f"on device {device}, wanted auto, torch, fused_cpu on cpu, or fused_gpu on cuda"
    return None


def import_engine(name: str) -> TrainMembers:
    """Import an engine: Numba and Triton take a second.

    Raises:
        BadInput: Triton is not there.
    """
    if name == "fused_cpu":
        from weightspace.zoo.fused_cpu import train_members_fused

        return train_members_fused
    if name == "fused_gpu":
        if not has_triton():
            raise BadInput("engine: got 'fused_gpu', which needs triton, and that is not installed here; wanted torch")
        from weightspace.zoo.fused_gpu import train_members_gpu

        return train_members_gpu
    return train_members_torch


def has_triton() -> bool:
    """Tell whether Triton is installed, which builds of torch for CUDA bring along."""
    return importlib.util.find_spec("triton") is not None


def choose_engine(
    name: str, device: torch.device, network: Network, augmentations: Iterable[str] = ("none",)
) -> TrainMembers:
    """Return the engine that `settle_engine` settles on."""
    return import_engine(settle_engine(name, device, network, augmentations))


def list_shared(train: TrainMembers, network: Network) -> list[str]:
    """Return the factors that members of one call of an engine must share.

    The fused engine mixes optimizers and batch sizes: that leaves fewer lanes of its vectors empty.
    """
    if train is not train_members_torch:
        return ["activation", "augmentation"]
    alone = [] if isinstance(network, Architecture) else ["train_fraction"]  # so that as many stay together as begin
    return [*RECIPE_FACTORS, "augmentation", *alone]


def cut_rows(rows: Int64[np.ndarray, " rows"], size: int | None) -> Iterator[Int64[np.ndarray, " some"]]:
    """Yield rows, always so many at a time: the last ones are filled up with copies of the very last. None: all."""
    size = size or len(rows)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.concatenate([part, np.full(size - len(part), part[-1])])


def make_recipe(factors: pd.DataFrame, num_images: int, train_metrics: TrainMetrics = "after") -> Recipe:
    """Gather the factors of members that share an activation; where optimizers or batch sizes differ, as an array."""
    first = factors.iloc[0]
    same = {name: bool((factors[name] == first[name]).all()) for name in ("optimizer", "batch_size")}
    return Recipe(
        activation=first.get("activation"),
        optimizer=first["optimizer"] if same["optimizer"] else factors["optimizer"].to_numpy(str),
        batch_size=int(first["batch_size"]) if same["batch_size"] else factors["batch_size"].to_numpy(np.int64),
        seed=factors["seed"].to_numpy(np.int64),
        lr=factors["lr"].to_numpy(float),
        weight_decay=factors["weight_decay"].to_numpy(float),
        dropout=factors["dropout"].to_numpy(float) if "dropout" in factors else np.zeros(len(factors)),
        num_train=count_images(factors, num_images),
        schedule=factors["schedule"].to_numpy(str) if "schedule" in factors else "constant",
        label_noise=factors["label_noise"].to_numpy(float) if "label_noise" in factors else 0.0,
        augmentation=first.get("augmentation", "none"),
        train_metrics=train_metrics,
    )


def train_table(
    architecture: Network,
    factors: pd.DataFrame,
    initial: Float32[torch.Tensor, "members weights"],
    images: PreparedImages,
    epochs: int,
    engine: str,
    device: torch.device,
    on_epoch: Callable[[int], None] | None = None,
    together: int | None = None,
    on_images: Callable[[int], None] | None = None,
    train_metrics: TrainMetrics = "after",
    folder: Path | None = None,
) -> Trajectory:
    """Train members of any factors from given weights; members keep the table's order.

    Args:
        factors: a row a member, with the columns of `members.FACTORS`; those of `members.OPTIONAL` may lack.
        on_epoch: called with a number of members whose next epoch is done.
        together: how many torch modules train side by side, see `together.choose_together`; None: all of a recipe.
        on_images: called after each epoch of some members with how many images they trained on: 0 after epoch 0.
        train_metrics: see `config.ZooConfig`.
        folder: where weights lie if they are many, see `training.make_trajectory`; None: in memory.
    """
    augmentations = factors["augmentation"].unique() if "augmentation" in factors else ("none",)
    train = choose_engine(engine, device, architecture, augmentations)
    trajectory = make_trajectory(len(factors), epochs + 1, initial.shape[1], folder)
    shared = [name for name in list_shared(train, architecture) if name in factors]
    if not isinstance(architecture, Architecture):
        check_last_batch(architecture, factors, images)
    groups = factors.groupby(shared, sort=True).indices.values()
    used = count_images(factors, len(images.train))
    for part in itertools.chain.from_iterable(cut_rows(cast("np.ndarray", group), together) for group in groups):
        recipe = make_recipe(factors.iloc[part], len(images.train), train_metrics)

        def keep(
            rows: np.ndarray,
            epoch: int,
            weights: np.ndarray,
            properties: Mapping[str, np.ndarray],
            part: np.ndarray = part,
        ) -> None:
            trajectory.keep(part[rows], epoch, weights, properties)
            real = np.unique(part[rows])
            if on_epoch:
                on_epoch(len(real))
            if on_images:
                on_images(int(used[real].sum()) if epoch else 0)

        train(architecture, recipe, initial[part], images, epochs, device, keep)
    return trajectory


def check_images(architecture: Network, image_set: ImageSet, name: str) -> None:
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
