"""Networks, images and members that twins are made of in a moment."""

import pandas as pd
import torch

from weightspace.images.image_set import PreparedImages
from weightspace.networks import Architecture, Block, build_layout
from weightspace.twins.config import TwinsConfig

CPU = torch.device("cpu")
NETWORK = Architecture(
    name="tiny",
    channels=1,
    height=8,
    width=8,
    blocks=(
        Block(kind="conv", features=3, kernel=3, pool=True, dropout=True),
        Block(kind="conv", features=4, kernel=2),
        Block(kind="linear", features=6, dropout=True),
        Block(kind="linear", features=3, activate=False),
    ),
)
LAYOUT = build_layout(NETWORK)


def make_images() -> PreparedImages:
    """Make random images whose class is their brightest third."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = 0.5 * torch.randn(90, 1, 8, 8, generator=generator)
    for i, label in enumerate(labels):
        images[i, :, :, 3 * label : 3 * label + 2] += 1
    return PreparedImages(images[:50], labels[:50], images[50:70], labels[50:70], images[70:], labels[70:])


IMAGES = make_images()


def make_factors(members: int = 4, **said: object) -> pd.DataFrame:
    """Say how members were trained."""
    factors = {
        "member": [f"m{i:06d}" for i in range(members)],
        "seed": range(members),
        "activation": "tanh",
        "init": "kaiming_uniform",
        "optimizer": "adam",
        "lr": 1e-2,
        "weight_decay": 1e-2,
        "dropout": 0.1,
        "batch_size": 10,
        "train_fraction": 1.0,
    }
    return pd.DataFrame(factors | said)


def draw_start(members: int = 4) -> torch.Tensor:
    """Draw weights to start from."""
    return 0.3 * torch.randn(members, LAYOUT.num_weights, generator=torch.Generator().manual_seed(1))


def make_config(from_epoch: int = 0, shard_size: int = 4, **method: object) -> TwinsConfig:
    """Configure twins; variational ones unless the method says another kind."""
    variational = {
        "kind": "variational",
        "epochs": 2,
        "log_sigma2": -10.0,
        "threshold": 3.0,
        "penalty": 1.0,
        "warmup_epochs": 0,
        "lr": None,
        "variance_lr": None,
    }
    magnitude = {"kind": "magnitude", "sparsities": [0.5, 0.8], "scope": "network", "epochs": 0}
    base = magnitude if method.get("kind") == "magnitude" else variational
    said = {"zoo": "z", "images": "noise", "from_epoch": from_epoch, "shard_size": shard_size, "device": "cpu"}
    return TwinsConfig.model_validate({**said, "method": base | method})
