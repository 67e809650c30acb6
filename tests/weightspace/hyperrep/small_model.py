"""A hyper-representation small enough to train in a test, on the made-up study's 24 networks."""

from typing import Any

import torch

from tests.weightspace.samples.small_study import build_weight_data
from weightspace.config import Config
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.hyperrep.hyperrep import Hyperrep, tell_origin
from weightspace.hyperrep.train import prepare_run
from weightspace.store import Checkpoints
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import WeightData

CPU = torch.device("cpu")


class NoConfig(Config):
    """Configuration of made-up outputs."""


def make_config(**changes: Any) -> HyperrepConfig:
    """Configuration of a model with padding, context and every part; `changes` go into its sections."""
    said: dict[str, dict[str, object]] = {
        "model": {
            "d_model": 16,
            "num_heads": 2,
            "num_layers": 1,
            "d_feedforward": 24,
            "dropout": 0.0,
            "embedding": "shared",
            "latent": {"kind": "tokens"},
            "d_latent": 4,
            "bottleneck": "linear",
            "projection_widths": (16,),
            "d_projection": 6,
            "positions": "learned",
            "linear_path": "random",
            "token_scale": True,
        },
        "views": {"permute": "second", "noise": 0.1, "erase": 0.5, "target": "clean"},
        "loss": {
            "contrast_weight": 0.1,
            "contrast": "nt_xent",
            "temperature": 0.5,
            "normalization": "layer",
            "balance": "numbers",
            "padding": "left_out",
            "behaviour": {"kind": "none"},
            "scale": "none",
        },
        "training": {
            "epochs": {"kind": "range", "first": 0, "last": None, "every": 1},
            "sampling": {"kind": "proportional"},
            "steps": 12,
            "batch_size": 8,
            "lr": 3e-3,
            "schedule": "one_cycle",
            "warmup": 0.3,
            "weight_decay": 0.01,
            "clip": 1.0,
            "validate_every": 3,
            "validation_rows": 12,
            "keep_best": "reconstruction",
            "patience": 100,
            "seed": 0,
            "precision": "float32",
            "compile": False,
            "processes": 1,
        },
    }
    top: dict[str, Any] = {
        "weights": "w",
        "images": ".",
        "tokens": {"kind": "sparse", "d_token": 7},
        "window": 9,
        "device": "cpu",
    }
    parts = {name: section | changes.get(name, {}) for name, section in said.items()}
    return HyperrepConfig.model_validate(top | parts | {k: v for k, v in changes.items() if k not in said})


def make_data(members: int = 24) -> WeightData:
    """The study's weights, with statistics that change something."""
    data = build_weight_data(members)
    places = len(data.checkpoints.layout.places)
    statistics = Statistics(torch.linspace(-0.1, 0.1, places), torch.linspace(0.2, 0.5, places))
    return WeightData(data.checkpoints, statistics, data.reference)


def with_weights(data: WeightData, weights: torch.Tensor) -> WeightData:
    """The same rows with other weights."""
    kept = data.checkpoints
    changed = Checkpoints(kept.layout, kept.table, weights.numpy(), kept.about)
    return WeightData(changed, data.statistics, data.reference)


def build_untrained(config: HyperrepConfig | None = None, data: WeightData | None = None, seed: int = 1) -> Hyperrep:
    """Build a model as it is before its first step, with parameters large enough that every part matters."""
    data = data or make_data()
    config = config or make_config()
    run = prepare_run(data, config, CPU)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    tokenizer, origin = run.batching.tokenizer, tell_origin(data.checkpoints.about)
    return Hyperrep(config, run.model.eval(), tokenizer, data.statistics, data.reference, origin)


def behave(**changes: object) -> dict[str, Any]:
    """Changes of the configuration that turn the behavioural loss on."""
    shared = {"kind": "softmax", "weight": 0.9, "num_networks": 5, "num_images": 20}
    return {"images": "i", "window": "whole", "loss": {"behaviour": shared | changes}}


def one_latent(
    compression: str = "token", expansion: str = "linear", bottleneck: str = "tanh", **changes: object
) -> dict[str, Any]:
    """Changes of the configuration that give the network one latent, and each layer a map of its own."""
    latent = {"kind": "network", "compression": compression, "expansion": expansion}
    plain = {"linear_path": "none", "token_scale": False, "embedding": "layer"}
    return {"window": "whole", "model": {"latent": latent, "bottleneck": bottleneck, **plain, **changes}}
