"""Made-up networks of two architectures, and a model of both, small enough for tests."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.weightspace.hyperrep.small_model import CPU, make_config, make_data
from weightspace.hyperrep.config import HyperrepConfig
from weightspace.hyperrep.hyperrep import Hyperrep
from weightspace.hyperrep.train import build_hyperrep, prepare_run
from weightspace.networks import Architecture, Block, build_layout
from weightspace.store import Checkpoints
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import WeightData

SHORT = Architecture(
    name="mlp",
    channels=1,
    height=2,
    width=4,
    blocks=(Block(kind="linear", features=3), Block(kind="linear", features=2, activate=False)),
)
SHORT_LAYOUT = build_layout(SHORT)


def make_short(members: int = 12, zoo: str | None = None) -> WeightData:
    """The study's rows, with weights of another architecture, of few tokens."""
    data = make_data(members)
    generator = np.random.default_rng(3)
    table = data.checkpoints.table.copy() if zoo is None else data.checkpoints.table.assign(zoo=zoo)
    weights = generator.normal(0, 0.3, (len(table), SHORT_LAYOUT.num_weights)).astype(np.float32)
    places = len(SHORT_LAYOUT.places)
    statistics = Statistics(torch.full((places,), 0.05), torch.full((places,), 0.4))
    about = {"architecture": SHORT.model_dump(mode="json"), "network": "mlp"}
    return WeightData(Checkpoints(SHORT_LAYOUT, table, weights, about), statistics, torch.from_numpy(weights[0]))


def make_both(long: int = 24, short: int = 12) -> dict[str, WeightData]:
    """Networks of both layouts, as a weight data set of two zoos has them."""
    data = make_data(long)
    kept = replace(data.checkpoints, table=data.checkpoints.table.assign(zoo="a"))
    return {"cnn": replace(data, checkpoints=kept), "mlp": make_short(short, "b")}


def make_mixed_config(**changes: Any) -> HyperrepConfig:
    """Configuration of a model whose tokens are wide enough for both."""
    return make_config(**{"window": "whole"} | changes)


def build_mixed(**changes: Any) -> dict[str, Hyperrep]:
    """Build a model of both layouts before its first step, with parameters large enough that every part matters."""
    data = make_both()
    run = prepare_run(data, make_mixed_config(**changes), CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return {name: build_hyperrep(run, part) for name, part in zip(data, run.parts, strict=True)}
