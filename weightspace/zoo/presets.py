"""The published zoos as configurations: how each was trained, and on which images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightspace.config import BadInput
from weightspace.images.config import ImagesConfig
from weightspace.zoo.config import ZooConfig

ACTIVATIONS = ("tanh", "relu", "sigmoid", "gelu")
INITS = ("uniform", "normal", "kaiming_uniform", "kaiming_normal")
NUM_SEEDS, SEEDS_A_CELL, SEEDS_BELOW = 1000, 10, 1_000_000
SHARD, SHARD_BYTES = 64, 4e9
"""At most so many members are kept as one file, and of large ones so many that their checkpoints take so much."""
VALUES = Sequence[float | str]


@dataclass(frozen=True)
class Family:
    """The zoos of one image set in the Model Zoos: a seed zoo and two grids."""

    architecture: str
    seed_zoo: tuple[str, str, float, float]
    """Activation, init, rate and weight decay; Adam, no dropout."""
    dropout: VALUES
    optimizer: VALUES
    lr: VALUES
    weight_decay: VALUES
    """Of the grids, which also have every one of `ACTIVATIONS` and `INITS`."""


BOTH, RATES, HALF = ("adam", "sgd"), (1e-3, 1e-4), (0.0, 0.5)
MNIST = Family("cnn_s", ("tanh", "uniform", 3e-4, 0.0), HALF, BOTH, RATES, (1e-3, 1e-4))
STL10 = ("tanh", "kaiming_uniform", 1e-4, 1e-3)
CIFAR10 = ("gelu", "kaiming_uniform", 1e-4, 1e-2)
FAMILIES = {
    "mnist": MNIST,
    "fashion_mnist": MNIST,
    "svhn": Family(
        "cnn_s",
        ("tanh", "uniform", 3e-3, 0.0),
        (0.0, 0.3, 0.5),
        ("sgd",),
        (1e-2, 1e-3, 1e-4),
        (0.0, 1e-3, 1e-1),
    ),
    "usps": Family("cnn_s", ("tanh", "uniform", 3e-4, 1e-3), HALF, BOTH, RATES, (1e-2, 1e-3)),
    "cifar10_s": Family("cnn_s", CIFAR10, HALF, BOTH, (1e-3,), (1e-2, 1e-3)),
    "cifar10_l": Family("cnn_l", CIFAR10, HALF, BOTH, (1e-3,), (1e-2, 1e-3)),
    "stl10_s": Family("cnn_s", STL10, HALF, BOTH, RATES, (1e-2, 1e-3)),
    "stl10_l": Family("cnn_l", STL10, HALF, BOTH, RATES, (1e-2, 1e-3)),
}
"""Source: Schürholt et al., Model Zoos (arXiv 2209.14764), released generator scripts."""
RESNETS = {
    "cifar10": (0.05, 256, 50, "crop_flip"),
    "cifar100": (0.1, 128, 60, "crop_flip"),
    "tiny_imagenet": (0.1, 128, 60, "flip"),
}
"""Peak rate, batch size, epochs and augmentation of the ResNet-18 zoos. Source: as above.

Differs: Tiny-ImageNet was also rotated by up to 20 degrees.
"""
SMALL_CNN_IMAGES = ("mnist", "fashion_mnist", "cifar10", "svhn")
PHASE_IMAGES = ("svhn", "cifar10", "cifar100", "tiny_imagenet")
PHASE_WIDTHS = tuple(2**n for n in range(1, 9))
PHASE_BATCHES = tuple(2**n for n in range(3, 11))


def list_presets() -> dict[str, str]:
    """List the names of all presets, each with the published zoo it stands for."""
    names = {}
    for family in FAMILIES:
        names[f"{family}_seed"] = f"Model Zoos, {family}: {NUM_SEEDS} seeds"
        for kind in ("fix", "rand"):
            names[f"{family}_hyp_{kind}"] = f"Model Zoos, {family}: grid, {SEEDS_A_CELL} {kind} seeds a cell"
    names |= {f"{images}_resnet18_seed": f"Model Zoos, ResNet-18 on {images}" for images in RESNETS}
    names |= {f"{images}_small_cnn": f"Small CNN Zoo, {images}" for images in SMALL_CNN_IMAGES}
    for depth in (18, 50):
        for images in PHASE_IMAGES:
            for width in PHASE_WIDTHS:
                name = f"{images}_phase_resnet{depth}_w{width}"
                names[name] = f"Phase Transition zoo, ResNet-{depth} of width {width} on {images}: batch sizes x seeds"
    return names


def build_preset(name: str) -> ZooConfig:
    """Build the configuration of a published zoo; its `images` is the name before the kind of zoo.

    Raises:
        BadInput: no preset has that name.
    """
    if name not in list_presets():
        raise BadInput(f"preset: got {name!r}, wanted a name such as {', '.join(list(list_presets())[:3])}")
    for mark, build in (("_phase_", describe_phase), ("_resnet18_", describe_resnet), ("_small_cnn", describe_small)):
        images, found, rest = name.partition(mark)
        if found:
            return make_config(images, **build(images, rest))
    for mark, build in (("_hyp_", describe_grid), ("_seed", describe_seeds)):
        images, found, rest = name.partition(mark)
        if found:
            return make_config(images, **build(FAMILIES[images], rest))
    raise AssertionError(name)


def make_config(
    images: str,
    architecture: str | dict[str, Any],
    members: dict[str, Any],
    factors: Mapping[str, Any],
    epochs: int,
    shard_size: int = SHARD,
) -> ZooConfig:
    """Put a zoo's parts together; a factor of several values is a choice."""
    all_factors: dict[str, Any] = {"train_fraction": 1.0, **factors}
    members = members | {"factors": {name: state_factor(value) for name, value in all_factors.items()}}
    return ZooConfig.model_validate(
        {
            "images": images,
            "architecture": architecture,
            "members": members,
            "epochs": epochs,
            "shard_size": shard_size,
            "engine": "auto",
            "device": "auto",
        }
    )


def state_factor(value: Any) -> dict[str, Any]:
    """Say a value as a fixed factor, several as a choice; a factor as it is."""
    if isinstance(value, dict):
        return value
    return {"kind": "choice", "values": value} if isinstance(value, tuple) else {"kind": "fixed", "value": value}


def state_grid(seeds: Any, count: int) -> dict[str, Any]:
    """Say a grid that grows to exactly so many members."""
    return {"kind": "grid", "seeds": seeds, "max_members": count}


def limit_shard(depth: int, width: int, epochs: int) -> int:
    """Return how many residual networks are kept as one file, by their weights at width 64: near 11 or 24 million."""
    weights = {18: 11.2e6, 50: 23.6e6}[depth] * (width / 64) ** 2
    return max(1, min(SHARD, int(SHARD_BYTES / (4 * weights * (epochs + 1)))))


def describe_seeds(family: Family, _: str) -> dict[str, Any]:
    """Describe a seed zoo."""
    names = ("activation", "init", "lr", "weight_decay")
    factors = dict(zip(names, family.seed_zoo, strict=True)) | {"optimizer": "adam", "dropout": 0.0, "batch_size": 10}
    members = state_grid(list(range(1, NUM_SEEDS + 1)), NUM_SEEDS)
    return {"architecture": family.architecture, "members": members, "factors": factors, "epochs": 50}


def describe_grid(family: Family, kind: str) -> dict[str, Any]:
    """Describe a grid whose cells all have the seeds 1 to 10 (`fix`), or ten random ones each (`rand`)."""
    varied = {name: tuple(getattr(family, name)) for name in ("dropout", "optimizer", "lr", "weight_decay")}
    factors = {"activation": ACTIVATIONS, "init": INITS, **varied}
    count = SEEDS_A_CELL
    for values in factors.values():
        count *= len(values)
    seeds: Any = list(range(1, SEEDS_A_CELL + 1))
    if kind == "rand":
        seeds = {"kind": "drawn", "count": SEEDS_A_CELL, "below": SEEDS_BELOW, "seed": 0}
    factors |= {"batch_size": 10}
    return {
        "architecture": family.architecture,
        "members": state_grid(seeds, count),
        "factors": factors,
        "epochs": 50,
    }


def describe_resnet(images: str, _: str) -> dict[str, Any]:
    """Describe a ResNet-18 seed zoo."""
    lr, batch_size, epochs, augmentation = RESNETS[images]
    factors = {
        "activation": "relu",
        "init": "kaiming_uniform",
        "optimizer": "sgd",
        "lr": lr,
        "weight_decay": 5e-4,
        "dropout": 0.0,
        "batch_size": batch_size,
        "schedule": "one_cycle",
        "augmentation": augmentation,
    }
    members = state_grid(list(range(1, NUM_SEEDS + 1)), NUM_SEEDS)
    return {
        "architecture": {"kind": "resnet", "depth": 18, "width": 64},
        "members": members,
        "factors": factors,
        "epochs": epochs,
        "shard_size": limit_shard(18, 64, epochs),
    }


def describe_small(images: str, _: str) -> dict[str, Any]:
    """Describe one of the four Small CNN Zoos.

    Source: Unterthiner et al. (arXiv 2002.11448), and for the ranges google-research's `ALL_HPARAM_RANGES`.
    Differs: the initial scale follows from the init instead of being drawn, and orthogonal starts are left out; weight
    decay stands for the penalty on squared weights; seeds differ, where all published runs have 42.
    """
    factors = {
        "activation": ("relu", "tanh"),
        "init": ("kaiming_normal", "xavier_normal", "normal"),
        "optimizer": ("rmsprop", "sgd", "adam"),
        "lr": {"kind": "log_uniform", "low": 5e-4, "high": 5e-2},
        "weight_decay": {"kind": "log_uniform", "low": 1e-8, "high": 1e-2},
        "dropout": {"kind": "uniform", "low": 0.0, "high": 0.7},
        "batch_size": 512,
        "train_fraction": (0.1, 0.25, 0.5, 1.0),
    }
    members = {"kind": "draw", "count": 30_000, "seed": SMALL_CNN_IMAGES.index(images)}
    return {"architecture": "small_cnn", "members": members, "factors": factors, "epochs": 86}


def describe_phase(_: str, rest: str) -> dict[str, Any]:
    """Describe one width of a phase zoo, `resnet18_w64`: batch size is the temperature, width the load.

    Source: Phase Transition Model Zoo (arXiv 2504.18072).
    Differs: the published networks have torchvision's stem, and images were also rotated by up to 20 degrees.
    """
    kind, _, width = rest.partition("_w")
    factors = {
        "activation": "relu",
        "init": "kaiming_normal",
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "dropout": 0.0,
        "batch_size": PHASE_BATCHES,
        "schedule": "one_cycle",
        "augmentation": "crop_flip",
    }
    depth = int(kind.removeprefix("resnet"))
    return {
        "architecture": {"kind": "resnet", "depth": depth, "width": int(width)},
        "members": state_grid([1, 2, 3], 3 * len(PHASE_BATCHES)),
        "factors": factors,
        "epochs": 150,
        "shard_size": limit_shard(depth, int(width), 150),
    }


IMAGES: dict[str, dict[str, Any]] = {
    "mnist": {"set": "mnist", "split": (50_000, 10_000, 10_000), "side": 28, "channels": 1, "scale": (0.1307, 0.3081)},
    "fashion_mnist": {
        "set": "fashion_mnist",
        "split": (50_000, 10_000, 10_000),
        "side": 28,
        "channels": 1,
        "scale": (0.5, 0.5),
    },
    "svhn": {
        "split": (60_000, 13_257, 26_032),
        "side": 28,
        "channels": 1,
        "scale": (0.5, 0.5),
        "fit": "crop",
    },
    "usps": {"split": (6000, 1291, 2007), "side": 28, "channels": 1},
    "cifar10_s": {"kind": "cifar10", "split": (42_000, 8000, 10_000), "side": 28, "channels": 3},
    "cifar10_l": {"kind": "cifar10", "split": (42_000, 8000, 10_000), "side": 32, "channels": 3},
    "stl10_s": {"kind": "stl10", "split": (4200, 800, 8000), "side": 28, "channels": 3},
    "stl10_l": {"kind": "stl10", "split": (4200, 800, 8000), "side": 32, "channels": 3},
}
"""What the Model Zoos' families see; `scale` is mean and deviation where known, else the training images' own."""


def build_images(name: str) -> ImagesConfig:
    """Build the configuration of the images that the zoos of a family were trained on, downloaded.

    Source: as `FAMILIES`; split with the seed 42.
    Differs: SVHN's grids are scaled as its seed zoo, not with MNIST's numbers as released.
    """
    if name not in IMAGES:
        raise BadInput(f"images: got {name!r}, wanted one of {', '.join(IMAGES)}")
    said = IMAGES[name]
    origin = {"kind": "download"} | ({"set": said["set"]} if "set" in said else {})
    train, val, test = said["split"]
    normalize: dict[str, Any] = {"kind": "train"}
    if "scale" in said:
        mean, std = said["scale"]
        normalize = {"kind": "fixed", "mean": [mean], "std": [std]}
    return ImagesConfig.model_validate(
        {
            "source": {"kind": "idx" if "set" in said else said.get("kind", name), "origin": origin},
            "classes": 10,
            "side": said["side"],
            "fit": said.get("fit", "resize"),
            "channels": said["channels"],
            "split": {"kind": "official", "train": train, "val": val, "test": test, "seed": 42},
            "normalize": normalize,
        }
    )
