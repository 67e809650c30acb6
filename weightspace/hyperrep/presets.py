"""Methods of the family by name: each a whole configuration, with its source.

A preset is the method as it was meant. What released code does otherwise by mistake is a value of its own:
`loss.contrast: released`, `views.target: seen`, `views.permute: none`, `loss.padding: counted`.

Differs, in all: GELU where 2021 and 2022 have ReLU, layer norms without biases and one after the last block, AdamW with
one cycle where 2021 has Adam with plateaus, gradients clipped at 1. The step counts of `published` are epochs times
batches of the published data sets, where those are known.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from weightspace.config import BadInput
from weightspace.hyperrep.config import NO_IMAGES, HyperrepConfig

PresetName = Literal[
    "ec_2021",
    "ec_positive_2021",
    "ed_2021",
    "ecd_2021",
    "ec_positive_d_2021",
    "hyperrep_2022",
    "sane_cnn",
    "sane_resnet18",
    "mln",
    "behavioural",
]
SizeName = Literal["small", "base", "published"]
Family = Literal["network", "sane_cnn", "sane_resnet18", "behavioural"]


@dataclass(frozen=True)
class Scale:
    """How large a model is and how long it learns."""

    d_model: int
    num_heads: int
    num_layers: int
    d_feedforward: int
    d_latent: int
    projection: tuple[int, ...]
    """Hidden widths of the projection head, then its outputs."""
    steps: int
    batch_size: int
    lr: float
    window: int | Literal["whole"] = "whole"


@dataclass(frozen=True)
class Method:
    """What sets a method apart from others of its family."""

    family: Family
    source: str
    loss: dict[str, Any]
    model: dict[str, Any]
    views: dict[str, Any]
    weight_decay: float
    epochs: dict[str, Any]
    """Checkpoints that the published model learned from; the other sizes take all."""
    lr: float | None = None
    """Published peak, where it is not the family's."""
    steps: int | None = None
    """Published steps, where they are not the family's."""


ALL_EPOCHS = {"kind": "range", "first": 0, "last": None, "every": 1}
SCALES: dict[Family, dict[SizeName, Scale]] = {
    # Published: MNIST-SEED of 2021; 500 epochs of 700 members x 25 checkpoints (those of the zoo's successor).
    "network": {
        "small": Scale(64, 4, 2, 128, 128, (64, 32), 300, 64, 1e-3),
        "base": Scale(256, 4, 2, 512, 256, (128, 128, 50), 3000, 128, 3e-4),
        "published": Scale(800, 4, 2, 900, 700, (400, 400, 400, 400, 50), 17_500, 500, 1e-4),
    },
    # Published: 50 epochs of 700 members x 5 checkpoints x 3 windows.
    "sane_cnn": {
        "small": Scale(64, 4, 2, 256, 24, (30, 30), 300, 64, 1e-3),
        "base": Scale(256, 8, 4, 1024, 64, (30, 30), 3000, 64, 3e-4),
        "published": Scale(1024, 8, 8, 4096, 128, (30, 30), 16_400, 32, 1e-4, 64),
    },
    # Published: 50 epochs of 140 members x 5 checkpoints x 50 windows.
    "sane_resnet18": {
        "small": Scale(128, 4, 2, 512, 32, (30, 30), 1000, 32, 1e-3, 128),
        "base": Scale(512, 8, 4, 2048, 64, (30, 30), 5000, 32, 3e-4, 256),
        "published": Scale(2048, 16, 8, 8192, 128, (30, 30), 54_700, 32, 1e-4, 256),
    },
    # Published: 500 epochs of 960 members x 4 checkpoints.
    "behavioural": {
        "small": Scale(64, 4, 2, 256, 24, (30, 30), 300, 64, 1e-3),
        "base": Scale(128, 4, 4, 512, 48, (30, 30), 3000, 64, 3e-4),
        "published": Scale(256, 8, 8, 1024, 64, (30, 30), 30_000, 64, 1e-4),
    },
}

NO_BEHAVIOUR = {"kind": "none"}
PLAIN_LOSS = {
    "contrast": "nt_xent",
    "temperature": 0.1,
    "normalization": "none",
    "balance": "numbers",
    "padding": "left_out",
    "behaviour": NO_BEHAVIOUR,
    "scale": "none",
}
TOKEN_MODEL = {"embedding": "shared", "latent": {"kind": "tokens"}, "bottleneck": "linear", "dropout": 0.0}
TOKEN_VIEWS = {"permute": "second", "noise": 0.1, "erase": 0.0, "target": "clean"}
NETWORK_VIEWS = {"permute": "both", "noise": 0.0, "erase": 0.5, "target": "clean"}
NEURONS = {"embedding": "layer", "dropout": 0.1}
NEURONS_2021 = NEURONS | {
    "latent": {"kind": "network", "compression": "token", "expansion": "linear"},
    "bottleneck": "tanh",
}
NEURONS_2022 = NEURONS | {
    "latent": {"kind": "network", "compression": "flatten", "expansion": "linear"},
    "bottleneck": "linear",
}
SOURCE_2021 = "arXiv 2110.15288, MNIST-SEED"
SOURCE_SANE = "arXiv 2406.09997, released code"
LAST_EPOCHS = {"kind": "range", "first": 21, "last": 25, "every": 1}


def make_2021(contrast_weight: float, contrast: str) -> Method:
    """Make a method of 2021 by the share and the kind of its contrast."""
    loss = PLAIN_LOSS | {"contrast_weight": contrast_weight, "contrast": contrast}
    return Method("network", SOURCE_2021, loss, NEURONS_2021, NETWORK_VIEWS, 1e-9, ALL_EPOCHS)


def make_sane(family: Family) -> Method:
    """Make SANE for one kind of zoo; its weights are standardised by layer."""
    loss = PLAIN_LOSS | {"contrast_weight": 0.05}
    return Method(family, SOURCE_SANE, loss, TOKEN_MODEL, TOKEN_VIEWS, 3e-9, LAST_EPOCHS)


METHODS: dict[PresetName, Method] = {
    "ec_2021": make_2021(1.0, "nt_xent"),
    "ec_positive_2021": make_2021(1.0, "positive"),
    "ed_2021": make_2021(0.0, "nt_xent"),
    "ecd_2021": make_2021(0.1, "nt_xent"),
    "ec_positive_d_2021": make_2021(0.1, "positive"),
    "hyperrep_2022": Method(
        "network",
        # Its sizes are not public: those of 2021 stand for them; rates and weights are the code's defaults.
        "arXiv 2209.14733, layer-wise loss normalisation",
        PLAIN_LOSS | {"contrast_weight": 0.5, "normalization": "spread"},
        NEURONS_2022,
        NETWORK_VIEWS,
        3e-5,
        {"kind": "range", "first": 0, "last": 25, "every": 1},
        lr=3e-4,
    ),
    "sane_cnn": make_sane("sane_cnn"),
    "sane_resnet18": make_sane("sane_resnet18"),
    "mln": Method(
        "sane_resnet18",
        "arXiv 2504.10141, masked loss normalisation; weights are not standardised",
        PLAIN_LOSS | {"contrast_weight": 0.05, "normalization": "batch"},
        TOKEN_MODEL,
        TOKEN_VIEWS,
        3e-9,
        LAST_EPOCHS,
        lr=2e-5,
        # 60 epochs of 200 members x 5 checkpoints x 50 windows; the windows are SANE's.
        steps=93_800,
    ),
    "behavioural": Method(
        "behavioural",
        "arXiv 2503.17138, C+S+B; weights are neither aligned nor standardised",
        PLAIN_LOSS
        | {
            "contrast_weight": 0.05,
            "behaviour": {"kind": "softmax", "weight": 0.9, "num_networks": 64, "num_images": 256},
            "scale": "first_step",
        },
        TOKEN_MODEL,
        TOKEN_VIEWS | {"permute": "both", "noise": 0.0},
        3e-9,
        {"kind": "list", "epochs": (20, 30, 40, 50)},
    ),
}
WIDE_TOKENS: dict[Family, int] = {"sane_resnet18": 288}
"""Where the widest channel is not what a token holds."""


def build_preset(name: PresetName, size: SizeName, weights: str, images: str = NO_IMAGES) -> HyperrepConfig:
    """Build a named method for a weight data set.

    E_c compares views only (`ec`), E_c+ without negatives (`ec_positive`), E_D reconstructs only, E_cD both; the
    untrained encoder is written beside every hyper-representation and needs no preset.

    Args:
        images: the image set that the networks were trained on; `behavioural` alone has a use for it.

    Raises:
        BadInput: no preset or size of that name, or images that it lacks.
    """
    sizes = ", ".join(get_args(SizeName))
    if name not in METHODS or size not in get_args(SizeName):
        raise BadInput(f"preset: got {name!r} of size {size!r}, wanted one of {', '.join(METHODS)}; {sizes}")
    method = METHODS[name]
    runs = method.loss["behaviour"] != NO_BEHAVIOUR
    if runs and images == NO_IMAGES:
        raise BadInput(f"preset {name}: got images {images!r}, wanted the image set of the zoo")
    scale = SCALES[method.family][size]
    said = {
        "weights": weights,
        "images": images,
        "tokens": {"kind": "sparse", "d_token": WIDE_TOKENS.get(method.family, "auto")},
        "window": scale.window,
        "model": say_model(method, scale),
        "views": method.views,
        "loss": say_loss(method, size),
        "training": say_training(method, scale, size),
        "device": "auto",
    }
    return HyperrepConfig.model_validate(said)


def say_model(method: Method, scale: Scale) -> dict[str, Any]:
    """Say how the model looks."""
    return method.model | {
        "d_model": scale.d_model,
        "num_heads": scale.num_heads,
        "num_layers": scale.num_layers,
        "d_feedforward": scale.d_feedforward,
        "d_latent": scale.d_latent,
        "projection_widths": scale.projection[:-1],
        "d_projection": scale.projection[-1],
        "positions": "learned",
        "linear_path": "none",
        "token_scale": False,
    }


def say_loss(method: Method, size: SizeName) -> dict[str, Any]:
    """Say what is minimised; on two cores fewer networks are run, on fewer images."""
    behaviour = method.loss["behaviour"]
    if size == "published" or behaviour == NO_BEHAVIOUR:
        return method.loss
    return method.loss | {"behaviour": behaviour | {"num_networks": 32, "num_images": 64}}


def say_training(method: Method, scale: Scale, size: SizeName) -> dict[str, Any]:
    """Say how long and how fast to learn."""
    published = size == "published"
    steps = method.steps if published and method.steps else scale.steps
    return {
        "epochs": method.epochs if published else ALL_EPOCHS,
        "sampling": {"kind": "proportional"},
        "steps": steps,
        "batch_size": scale.batch_size,
        "lr": method.lr if published and method.lr else scale.lr,
        "schedule": "one_cycle",
        "warmup": 0.3,
        "weight_decay": method.weight_decay,
        "clip": 1.0,
        "validate_every": max(50, steps // 50),
        "validation_rows": 512,
        "keep_best": "contrast" if method.loss["contrast_weight"] == 1 else "loss",
        "patience": 50,
        "precision": "float32",
        "compile": False,
        "processes": 1,
        "seed": 0,
    }
