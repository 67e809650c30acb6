"""A made-up study, small enough for a test: networks on 8x8 images, latents that are the tokens themselves."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from weightspace.config import Config
from weightspace.embeddings.embeddings import Embeddings, write_embeddings
from weightspace.images.image_set import ImageSet, write_image_set
from weightspace.networks import Architecture, Block, build_layout
from weightspace.record import write_record
from weightspace.samples.config import SamplesConfig
from weightspace.store import Checkpoints
from weightspace.tokens.tokenizer import Tokenizer, widest_row
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import WeightData, write_weight_data
from weightspace.zoo.members import initialize_members

ARCHITECTURE = Architecture(
    name="tiny",
    channels=1,
    height=8,
    width=8,
    blocks=(
        Block(kind="conv", features=3, kernel=3, pool=True),
        Block(kind="linear", features=4),
        Block(kind="linear", features=3, activate=False),
    ),
)
LAYOUT = build_layout(ARCHITECTURE)
TOKENIZER = Tokenizer(LAYOUT, widest_row(LAYOUT))
EPOCHS = 3


def draw_factors(members: int) -> pd.DataFrame:
    names = [f"m{i:06d}" for i in range(members)]
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "member": names,
            "seed": np.arange(members),
            "activation": [("tanh", "relu", "relu")[i % 3] for i in range(members)],
            "init": [("uniform", "kaiming_normal")[i // 2 % 2] for i in range(members)],
            "optimizer": "adam",
            "lr": 10 ** generator.uniform(-4, -2, members),
            "weight_decay": 0.0,
            "dropout": generator.choice([0.0, 0.2], members),
            "batch_size": 16,
            "train_fraction": 1.0,
            "split": [("train", "train", "val", "test")[i % 4] for i in range(members)],
        }
    )


def build_weight_data(members: int = 24) -> WeightData:
    """Members whose accuracies are drawn at random, validation and test apart."""
    factors = draw_factors(members)
    table = factors.loc[factors.index.repeat(EPOCHS)].reset_index(drop=True)
    table.insert(1, "epoch", np.tile(np.arange(EPOCHS), members))
    generator = np.random.default_rng(1)
    for name in ("train", "val", "test"):
        table[f"{name}_accuracy"] = generator.random(len(table)).astype(np.float32)
        table[f"{name}_loss"] = generator.random(len(table)).astype(np.float32)
    table["generalization_gap"] = table["train_accuracy"] - table["test_accuracy"]
    table["diverged"] = False
    initial = initialize_members(ARCHITECTURE, factors.assign(init="kaiming_uniform")).numpy()
    drift = 0.1 * generator.standard_normal((members, EPOCHS, LAYOUT.num_weights)).cumsum(1)
    weights = (initial[:, None] + drift).astype(np.float32).reshape(-1, LAYOUT.num_weights)
    about = {"architecture": ARCHITECTURE.model_dump(mode="json")}
    checkpoints = Checkpoints(LAYOUT, table, weights, about)
    ones = torch.ones(len(LAYOUT.places))
    return WeightData(checkpoints, Statistics(0 * ones, ones), torch.from_numpy(weights[2].copy()))


def build_embeddings(data: WeightData) -> Embeddings:
    tokens = TOKENIZER.tokenize(torch.from_numpy(data.checkpoints.weights)).numpy()
    return Embeddings(data.checkpoints.table, tokens.mean(1), tokens, None)


def decode(latents: torch.Tensor) -> torch.Tensor:
    return TOKENIZER.detokenize(latents)


def build_image_set(size: int = 8, classes: int = 3) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % classes
    images = torch.randint(0, 120, (90, 1, size, size), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, :, :, 2 * label : 2 * label + 2] += 100
    split = {"train": torch.arange(50), "val": torch.arange(50, 70), "test": torch.arange(70, 90)}
    return ImageSet(images, labels, split, torch.tensor([0.3]), torch.tensor([0.2]), torch.arange(90), {})


def make_samples_config(**changes: object) -> SamplesConfig:
    relative = {"kind": "relative", "value": 0.1}
    said = {
        "weights": "w",
        "hyperrep": "h",
        "embeddings": "e",
        "images": "i",
        "anchors": {"top_fraction": 0.5, "epochs": "last"},
        "num_samples": 5,
        "samplers": [
            {"kind": "kde_joint", "bandwidth": relative},
            {"kind": "kde_independent", "bandwidth": relative},
            {"kind": "kde_released", "bandwidth": {"kind": "absolute", "value": 0.01}},
            {"kind": "anchor_noise", "noise": 0.1},
            {"kind": "anchor_average"},
        ],
        "halo": 0,
        "candidates": 3,
        "seed": 0,
        "device": "cpu",
    }
    return SamplesConfig.model_validate(said | changes)


class NoConfig(Config):
    """Configuration of made-up outputs."""


class SmallHyperrep:
    """Stands for a hyper-representation that loses nothing."""

    layout = LAYOUT

    def decode(self, latents: torch.Tensor, halo: int) -> torch.Tensor:
        return decode(latents)


def write_inputs(root: Path) -> None:
    """Write the study's weights `w`, images `i`, hyper-representation `h` (a name only) and embeddings `e`."""
    data = build_weight_data()
    writers = {
        "weights/w": lambda folder: write_weight_data(folder, data),
        "images/i": lambda folder: write_image_set(folder, build_image_set()),
        "hyperrep/h": lambda folder: (folder / "model.txt").write_text("stands for a model"),
        "embeddings/e": lambda folder: write_embeddings(folder, build_embeddings(data)),
    }
    for place, write in writers.items():
        folder = root / "data" / place
        folder.mkdir(parents=True)
        write(folder)
        stage, name = place.split("/")
        write_record(folder, stage, name, NoConfig(), {})
