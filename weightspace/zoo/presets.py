"""The published zoos as configurations: how each was trained, and on which images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightspace.config import BadInput
from weightspace.images.config import ImagesConfig
from weightspace.zoo.config import TrainMetrics, ZooConfig

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
    "tiny_imagenet": (0.1, 128, 60, "flip_rotate"),
}
"""Peak rate, batch size, epochs and augmentation of the ResNet-18 zoos. Source: as above."""
SMALL_CNN_IMAGES = ("mnist", "fashion_mnist", "cifar10", "svhn")
PHASES = {
    "svhn": (150, "crop_rotate"),
    "cifar10": (150, "crop_flip_rotate"),
    "cifar100": (150, "crop_flip_rotate"),
    "tiny_imagenet": (100, "crop_flip_rotate"),
}
"""Epochs and augmentation of the phase zoos, see `describe_phase`."""
PHASE_WIDTHS = tuple(2**n for n in range(1, 9))
PHASE_BATCHES = tuple(2**n for n in range(3, 11))
PHASE_SEEDS = (0, 1, 2)


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
        for images in PHASES:
            for width in PHASE_WIDTHS:
                name = f"{images}_phase_resnet{depth}_w{width}"
                names[name] = f"Phase Transition zoo, ResNet-{depth} of width {width} on {images}: batch sizes x seeds"
    return names


def build_preset(name: str) -> ZooConfig:
    """Build the configuration of a published zoo, whose `images` are those of `build_images`.

    Raises:
        BadInput: no preset has that name.
    """
    if name not in list_presets():
        raise BadInput(f"preset: got {name!r}, wanted a name such as {', '.join(list(list_presets())[:3])}")
    for mark, build in (("_phase_", describe_phase), ("_resnet18_", describe_resnet), ("_small_cnn", describe_small)):
        images, found, rest = name.partition(mark)
        if found:
            own = images + mark.rstrip("_")
            return make_config(own if own in IMAGES else images, **build(images, rest))
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
    train_metrics: TrainMetrics = "during",
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
            "train_metrics": train_metrics,
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
    """Return how many residual networks are kept as one file, by their weights at width 64: near 11 or 24 million.

    So many train side by side at most, and so much is made again after a crash.
    """
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

    Source: Unterthiner et al. (arXiv 2002.11448): the released `dnn_predict_accuracy/train_network.py`, and for ranges
    the `ALL_HPARAM_RANGES` of google-research's later work on the zoo.
    Differs:
        - Of five inits there are two. Orthogonal starts are left out, and normal ones of a drawn deviation (0.001 to
          0.5), plain and truncated: ours of 1 would be none of them. Keras truncates the other two as well.
        - Biases start at 0.01 instead of 0, and decay too, where only weights are penalised there. A penalty of c on
          squared weights is a weight decay of 2 c.
        - Optimizers have torch's constants: SGD a momentum of 0.9 instead of none, RMSprop an average over 0.99
          instead of 0.9, and it and Adam an epsilon of 1e-8 instead of 1e-7.
        - The last batch of an epoch is smaller, where it is left out there. Orders are drawn over all images, there
          within a buffer of 1,024.
        - Seeds differ, where all published runs have 42. All epochs are kept, there 9. A run goes on as diverged, where
          it stops there.
    """
    factors = {
        "activation": ("relu", "tanh"),
        "init": ("kaiming_normal", "xavier_normal"),
        "optimizer": ("rmsprop", "sgd", "adam"),
        "lr": {"kind": "log_uniform", "low": 5e-4, "high": 5e-2},
        "weight_decay": {"kind": "log_uniform", "low": 2e-8, "high": 2e-2},
        "dropout": {"kind": "uniform", "low": 0.0, "high": 0.7},
        "batch_size": 512,
        "train_fraction": (0.1, 0.25, 0.5, 1.0),
    }
    members = {"kind": "draw", "count": 30_000, "seed": SMALL_CNN_IMAGES.index(images)}
    return {"architecture": "small_cnn", "members": members, "factors": factors, "epochs": 86, "train_metrics": "after"}


def describe_phase(images: str, rest: str) -> dict[str, Any]:
    """Describe one width of a phase zoo, `resnet18_w64`: batch size is the temperature, width the load.

    Source: Phase Transition Model Zoo (arXiv 2504.18072), released scripts: `train_zoo_*_wide.py`, each with epochs,
    seeds and images, and `ResNetBase_width`, which gives torchvision's layout the stem for CIFAR images, 3x3 without
    pooling, and draws all weights anew, as the scripts say from `kaiming_uniform`. What `ResNet_width` has and draws
    before that, 7x7 and `kaiming_normal`, is in no network of the zoo.
    Differs: large batches of wide ResNet-50s were run in parts: their norms saw 128 to 512 images at once, and their
    schedule was cut short, since it counted parts as steps.
    """
    kind, _, width = rest.partition("_w")
    epochs, augmentation = PHASES[images]
    factors = {
        "activation": "relu",
        "init": "kaiming_uniform",
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "dropout": 0.0,
        "batch_size": PHASE_BATCHES,
        "schedule": "one_cycle",
        "augmentation": augmentation,
    }
    depth = int(kind.removeprefix("resnet"))
    return {
        "architecture": {"kind": "resnet", "depth": depth, "width": int(width)},
        "members": state_grid(list(PHASE_SEEDS), len(PHASE_SEEDS) * len(PHASE_BATCHES)),
        "factors": factors,
        "epochs": epochs,
        "shard_size": min(len(PHASE_SEEDS), limit_shard(depth, int(width), epochs)),  # no others train side by side
    }


@dataclass(frozen=True)
class Preparation:
    """A published image set as zoos saw it."""

    source: str
    split: tuple[int, int, int]
    """Images to train, validate and test with."""
    side: int
    scale: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean and deviation of pixels from 0 to 1, a value a channel each."""
    classes: int = 10
    fit: str = "resize"


IDX_SETS = ("mnist", "fashion_mnist", "kmnist")
GREY_HALF, HALF_SCALE = ((0.5,), (0.5,)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DIGITS_SCALE = ((0.1307,), (0.3081,))
SVHN_SCALE = ((0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
CIFAR10_SCALE = ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255))
CIFAR100_SCALE = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
IMAGENET_SCALE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGES = {
    "mnist": Preparation("mnist", (50_000, 10_000, 10_000), 28, DIGITS_SCALE),
    "fashion_mnist": Preparation("fashion_mnist", (50_000, 10_000, 10_000), 28, GREY_HALF),
    "kmnist": Preparation("kmnist", (50_000, 10_000, 10_000), 28, GREY_HALF),
    "svhn": Preparation("svhn", (60_000, 13_257, 26_032), 28, GREY_HALF, fit="crop"),
    "usps": Preparation("usps", (6000, 1291, 2007), 28, DIGITS_SCALE),
    "cifar10_s": Preparation("cifar10", (42_000, 8000, 10_000), 28, HALF_SCALE),
    "cifar10_l": Preparation("cifar10", (42_000, 8000, 10_000), 32, HALF_SCALE),
    "stl10_s": Preparation("stl10", (4200, 800, 8000), 28, HALF_SCALE),
    "stl10_l": Preparation("stl10", (4200, 800, 8000), 32, HALF_SCALE),
    "eurosat": Preparation("eurosat", (18_900, 2700, 5400), 32, HALF_SCALE),
    "cifar10": Preparation("cifar10", (40_000, 10_000, 10_000), 32, CIFAR10_SCALE),
    "cifar100": Preparation("cifar100", (40_000, 10_000, 10_000), 32, CIFAR100_SCALE, classes=100),
    "tiny_imagenet": Preparation("tiny_imagenet", (99_000, 1000, 10_000), 64, IMAGENET_SCALE, classes=200),
    "mnist_small_cnn": Preparation("mnist", (59_000, 1000, 10_000), 28, GREY_HALF),
    "fashion_mnist_small_cnn": Preparation("fashion_mnist", (59_000, 1000, 10_000), 28, GREY_HALF),
    "cifar10_small_cnn": Preparation("cifar10", (49_000, 1000, 10_000), 32, GREY_HALF),
    "svhn_small_cnn": Preparation("svhn", (72_257, 1000, 26_032), 32, GREY_HALF),
    "svhn_phase": Preparation("svhn", (72_257, 1000, 26_032), 32, SVHN_SCALE),
    "cifar10_phase": Preparation("cifar10", (49_000, 1000, 10_000), 32, CIFAR10_SCALE),
    "cifar100_phase": Preparation("cifar100", (49_000, 1000, 10_000), 32, CIFAR100_SCALE, classes=100),
}
"""What each published zoo sees. A kind of zoo that prepares a set in its own way has its name in the set's.

Source: the scripts that each zoo was released with. No zoo of KMNIST is published, and no script of EuroSAT's.
"""


def build_images(name: str) -> ImagesConfig:
    """Build the configuration of the images that the zoos of a preset were trained on, downloaded.

    Source: as `IMAGES`; split with the seed 42.
    Differs: SVHN's grids are scaled as its seed zoo, not with MNIST's numbers as released. Tiny-ImageNet's zoos, the
    Small CNN Zoos and the phase zoos had no validation images: 1,000 of their training images are held out. The Small
    CNN Zoos' grey was the plain mean of the colours.

    Raises:
        BadInput: no zoo saw images of that name.
    """
    if name not in IMAGES:
        raise BadInput(f"images: got {name!r}, wanted one of {', '.join(IMAGES)}")
    said = IMAGES[name]
    idx = said.source in IDX_SETS
    origin = {"kind": "download"} | ({"set": said.source} if idx else {})
    parts = dict(zip(("train", "val", "test"), said.split, strict=True))
    mean, std = said.scale
    return ImagesConfig.model_validate(
        {
            "source": {"kind": "idx" if idx else said.source, "origin": origin},
            "classes": said.classes,
            "side": said.side,
            "fit": said.fit,
            "channels": len(mean),
            "split": {"kind": "counts" if said.source == "eurosat" else "official", **parts, "seed": 42},
            "normalize": {"kind": "fixed", "mean": mean, "std": std},
        }
    )
