"""Large zoos: what a checkpoint costs on a core here, and what a million members would take on many GPUs.

Seconds are those of the processor, not of the clock, so that other work on the machine tells less. Training on a GPU is
not measured: the plan takes a floor for it, from operations and data sheets, and says so.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from dvc_data.hashfile.hash import file_md5

from weightspace.device import resolve_device
from weightspace.images.build import build_image_set
from weightspace.images.config import CountSplit, Digits, ImagesConfig, TrainStatistics
from weightspace.images.image_set import prepare_images
from weightspace.networks import build_cnn_s
from weightspace.record import hash_file
from weightspace.store import Checkpoints, write_part
from weightspace.zoo.config import Choice, Draw, Factors, Fixed, LogUniform, Uniform, ZooConfig
from weightspace.zoo.shards import plan_shards, train_shard

MEMBERS, EPOCHS, TRAIN = 32, 10, 1000
REPEATS = 3
FLOOR_S = 25.0
"""1,000 members of the MNIST seed zoo (CNN-s, 50 epochs, 50,000 images) on an H200 at its 67 TFLOP/s: assumed."""
SHARE = 4
"""A kernel that is good reaches a quarter of that: assumed."""
PLANNED, PLANNED_CHECKPOINTS = 1_000_000, 51
CORES_PER_GPU = 16
NUM_GPUS = (1, 8, 64)
MB = 1e6


def measure() -> dict[str, float]:
    """Measure every figure, and print them with the plan."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_shard(Path(folder))
    for name, value in figures.items():
        print(f"{name:34} {value:12,.4g}")
    print(f"\n{PLANNED:,} members of the MNIST seed zoo, hours")
    print(plan_zoo(figures).to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    return figures


def measure_shard(folder: Path) -> dict[str, float]:
    """Train one shard, write it, and hash what was written."""
    config = describe_zoo()
    architecture = build_cnn_s()
    images = prepare_images(build_image_set(describe_images(), Path.cwd()), torch.device("cpu"))
    shard = plan_shards(config, architecture, "")[0]
    shards: list[Checkpoints] = []

    def train() -> None:
        shards.append(train_shard(shard, config, architecture, images, resolve_device("cpu")))

    train()  # compiles
    train_s = time_core(train)
    part = folder / "part.parquet"
    raw, rows = shards[-1].weights.nbytes, len(shards[-1].weights)
    shares = shard.factors["train_fraction"].to_numpy(float)
    write_s = time_core(lambda: write_part(part, shards[-1]))
    size = part.stat().st_size
    return {
        "member_epochs_per_core_s": MEMBERS * EPOCHS / train_s,
        "image_members_per_core_s": float(shares.sum()) * TRAIN * EPOCHS / train_s,
        "bytes_per_checkpoint": size / rows,
        "raw_bytes_per_checkpoint": raw / rows,
        "parquet_raw_mb_per_core_s": raw / MB / write_s,
        "record_sha256_mb_per_core_s": size / MB / time_core(lambda: hash_file(part)),
        "dvc_md5_mb_per_core_s": size / MB / time_core(lambda: file_md5(str(part))),
    }


def time_core(run: Callable[[], object]) -> float:
    """Return the fewest of several counts of processor seconds, of all threads together."""
    counts = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        counts.append(time.process_time() - started)
    return min(counts)


def plan_zoo(figures: dict[str, float]) -> pd.DataFrame:
    """Work out how many hours each part of making the planned zoo takes on some numbers of GPUs."""
    checkpoints = PLANNED * PLANNED_CHECKPOINTS
    gpus = np.array(NUM_GPUS)
    floor_h = PLANNED / 1000 * FLOOR_S / 3600 / gpus
    raw_mb, stored_mb = (
        checkpoints * figures[name] / MB for name in ("raw_bytes_per_checkpoint", "bytes_per_checkpoint")
    )
    write_h = raw_mb / figures["parquet_raw_mb_per_core_s"] / 3600 / (gpus * CORES_PER_GPU)
    hashes = ("record_sha256_mb_per_core_s", "dvc_md5_mb_per_core_s")
    hash_h = sum(stored_mb / figures[name] for name in hashes) / 3600
    return pd.DataFrame(
        {
            "GPUs": gpus,
            "training, floor": floor_h,
            "training, 1/4 of peak": SHARE * floor_h,
            f"Parquet, {CORES_PER_GPU} cores a GPU": write_h,
            "hashing, one core": hash_h,
        }
    )


def describe_zoo() -> ZooConfig:
    """Describe a zoo of one shard; one activation, so that no lane of the fused engine is empty."""
    inits = ("uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal")
    factors: Factors = {
        "activation": Fixed(kind="fixed", value="tanh"),
        "init": Choice(kind="choice", values=inits),
        "optimizer": Choice(kind="choice", values=("sgd", "adam")),
        "lr": LogUniform(kind="log_uniform", low=1e-3, high=2e-2),
        "weight_decay": LogUniform(kind="log_uniform", low=1e-5, high=1e-2),
        "dropout": Uniform(kind="uniform", low=0.0, high=0.5),
        "batch_size": Fixed(kind="fixed", value=32),
        "train_fraction": Fixed(kind="fixed", value=1.0),
    }
    return ZooConfig(
        images="digits",
        architecture="cnn_s",
        members=Draw(kind="draw", count=MEMBERS, seed=1, factors=factors),
        epochs=EPOCHS,
        shard_size=MEMBERS,
        engine="auto",
        device="cpu",
        train_metrics="after",
    )


def describe_images() -> ImagesConfig:
    """Describe the images of the quickstart study."""
    return ImagesConfig(
        source=Digits(kind="digits"),
        classes=10,
        side=28,
        fit="resize",
        channels=1,
        split=CountSplit(kind="counts", train=TRAIN, val=300, test=497, seed=0),
        normalize=TrainStatistics(kind="train"),
    )
