"""The published MNIST seed zoo on one GPU: 1,000 members, batches of 10, 50 epochs of 50,000 images, all evaluated."""

import time

import numpy as np
import pandas as pd
import torch

from weightspace.images.image_set import PreparedImages
from weightspace.networks import build_cnn_s
from weightspace.zoo.members import initialize_members
from weightspace.zoo.train import choose_engine
from weightspace.zoo.training import Recipe, make_trajectory

MEMBERS, EPOCHS, BATCH_SIZE = 1000, 50, 10
IMAGES = {"train": 50_000, "val": 10_000, "test": 10_000}
SIDE, ROUNDS = 8192, 10


def measure_seed_zoo(operations: float) -> dict[str, float]:
    """Train and evaluate the zoo once, after an epoch of one member that compiles the kernels.

    Images are random, which changes no time. The floor is the time that the operations of the training alone take at
    the rate that large float32 matrix products reach on the same GPU.

    Args:
        operations: what it takes to train one network on one image.

    Returns:
        Seconds, and the floor as a part of them.
    """
    device, architecture = torch.device("cuda"), build_cnn_s()
    train = choose_engine("fused_gpu", device, architecture)
    images = make_images()
    weights = initialize_members(architecture, pd.DataFrame({"seed": np.arange(MEMBERS), "init": "uniform"}))
    train(architecture, make_recipe(1), weights[:1], images, 1, device, make_trajectory(1, 2, weights.shape[1]).keep)
    torch.cuda.synchronize()
    start = time.perf_counter()
    kept = make_trajectory(MEMBERS, EPOCHS + 1, weights.shape[1])
    train(architecture, make_recipe(MEMBERS), weights, images, EPOCHS, device, kept.keep)
    seconds = time.perf_counter() - start
    floor = MEMBERS * EPOCHS * IMAGES["train"] * operations / measure_products(device)
    return {"mnist_seed_s": seconds, "mnist_seed_floor_fraction": floor / seconds}


def make_images() -> PreparedImages:
    """Draw random images in the sizes of the published split."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for number in IMAGES.values():
        parts += [torch.randn(number, 1, 28, 28, generator=generator)]
        parts += [torch.randint(10, (number,), generator=generator)]
    return PreparedImages(*parts)


def make_recipe(members: int) -> Recipe:
    """Give each member the published recipe, and a seed of its own."""
    same, count = np.ones(members), np.full(members, IMAGES["train"])
    numbers = np.arange(members), 3e-4 * same, 0 * same, 0 * same, count
    return Recipe("tanh", "adam", BATCH_SIZE, *numbers, train_metrics="during")


def measure_products(device: torch.device) -> float:
    """Measure the float32 operations per second of large matrix products without tf32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = (torch.randn(SIDE, SIDE, device=device) for _ in range(2))
    best = 0.0
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(left, right)
        torch.cuda.synchronize()
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - start))
    return best
