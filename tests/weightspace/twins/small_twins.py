"""Networks, images and members that twins are made of in a moment."""

import pandas as pd
import torch

from tests.weightspace.zoo.tiny import NETWORK, make_images
from weightspace.networks import build_layout
from weightspace.twins.config import TwinsConfig

CPU = torch.device("cpu")
LAYOUT = build_layout(NETWORK)


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
