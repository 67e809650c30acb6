"""Run many networks on the same images on a CPU, with the kernels that train them."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import torch
from jaxtyping import Float32, Int64

from weightspace.networks import Activation, Architecture
from weightspace.zoo import fused_driver as driver
from weightspace.zoo.fused_build import compile_driver
from weightspace.zoo.fused_tables import lay_pixels, lay_rows, make_vectors
from weightspace.zoo.fused_vectors import LANES
from weightspace.zoo.fused_work import Plan, Work, build_plan

IMAGES_AT_ONCE = 512
"""Of a piece of work that one thread does, so that few networks keep all threads busy, too."""


def predict_logits_fused(
    architecture: Architecture,
    weights: Float32[torch.Tensor, "networks weights"],
    activation: Activation,
    images: Float32[torch.Tensor, "images channels height width"],
) -> Float32[torch.Tensor, "networks images classes"]:
    """Compute each network's logits for each image, without dropout; uses as many threads as torch may."""
    plan, run = build_plan(architecture, activation, gradients=False), compile_driver("predict")
    pixels, given = lay_pixels(images), weights.detach().cpu().numpy()
    logits = np.empty((len(given), len(pixels), architecture.num_classes), np.float32)

    def fill(piece: tuple[int, int]) -> None:
        first, start = piece
        networks, part = slice(first, first + LANES), slice(start, start + IMAGES_AT_ONCE)
        work, found = prepare_work(plan, given[networks], pixels[part], architecture.num_classes)
        run(work.job.ctypes.data)
        logits[networks, part] = np.moveaxis(found, 2, 0)[: len(given[networks])]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(fill, product(range(0, len(given), LANES), range(0, len(pixels), IMAGES_AT_ONCE))):
            pass
    return torch.from_numpy(logits)


def prepare_work(
    plan: Plan,
    weights: Float32[np.ndarray, "networks weights"],
    pixels: Float32[np.ndarray, "images width"],
    num_classes: int,
) -> tuple[Work, Float32[np.ndarray, "images classes lanes"]]:
    """Set up a network for each lane (the last one repeated to fill up) to see each image; return where logits go."""
    state = make_vectors(1, plan.num_weights)
    lanes: Int64[np.ndarray, " lanes"] = np.minimum(np.arange(LANES), len(weights) - 1)
    state[0] = weights[lanes].T
    work, found, nothing = Work(plan, state), make_vectors(len(pixels), num_classes), make_vectors(2)
    work.set_tables(
        {
            driver.IMAGES: pixels,
            driver.ORDER: lay_rows([np.arange(len(pixels))] * LANES),
            driver.RESULT: found,
            driver.KEYS: nothing,
            driver.DROPOUT: nothing,
        }
    )
    work.set_numbers({driver.WIDTH: pixels.shape[1], driver.MOST: len(pixels)})
    return work, found
