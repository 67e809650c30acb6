"""Decide how many torch modules are trained side by side."""

import logging

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call

from weightspace.config import BadInput
from weightspace.images.image_set import PreparedImages
from weightspace.networks import Activation
from weightspace.zoo.config import ZooConfig
from weightspace.zoo.kinds import ModuleNetwork, build_module, lay_out_network
from weightspace.zoo.learners import ModuleLearner
from weightspace.zoo.members import count_images, list_bounds
from weightspace.zoo.modules import name_tensors, read_vector
from weightspace.zoo.training import Recipe

MOST = 64
SHARE = 0.5
"""Of a device's memory that members may take; the rest is for images, evaluation and what kernels need."""
COPIES = 2
"""Times that a member's activations are there at once: `vmap` lays them out anew for some kernels."""
VECTORS = 8
"""Times that a member's weight vector is there: itself, gradient, two moments, what a step makes of them."""
logger = logging.getLogger(__name__)


def choose_together(config: ZooConfig, network: ModuleNetwork, images: PreparedImages, device: torch.device) -> int:
    """Return how many members of a zoo train side by side: as asked, else as fit; one where `vmap` cannot run them.

    The same for all shards, whoever is in them, since what a member computes depends on how many there are to the last
    bits. No more than a shard has: what fills one up takes as much memory as a member. A CPU is as fast one at a time.
    """
    asked = config.together
    if asked is None:
        asked = 1 if device.type == "cpu" else min(config.shard_size, count_fitting(config, network, images, device))
    if asked > 1 and not runs_together(network, list_activations(config)[0], images):
        logger.info("%s: one member at a time, since torch.func.vmap cannot run it", network.name)
        return 1
    return asked


def list_activations(config: ZooConfig) -> list[Activation | None]:
    """List the activations that members may have; None is a module's own."""
    factor = config.members.factors.get("activation")
    return [None] if factor is None else list(list_bounds(factor))  # pyright: ignore[reportReturnType]


def find_largest_batch(config: ZooConfig) -> int:
    """Return the most images that a batch of a member may have."""
    return int(max(list_bounds(config.members.factors["batch_size"])))  # pyright: ignore[reportArgumentType]


def check_last_batch(network: ModuleNetwork, factors: pd.DataFrame, images: PreparedImages) -> None:
    """Refuse a batch of one image where the network cannot learn from it: where its norms need more.

    Raises:
        BadInput: it cannot.
    """
    num, size = count_images(factors, len(images.train)), factors["batch_size"].to_numpy(int)
    if not ((num % size == 1) | (size == 1)).any():
        return
    activation = None if "activation" not in factors else factors["activation"].iloc[0]
    module, layout = build_module(network, activation).train(), lay_out_network(network)
    tensors = name_tensors(module, layout, read_vector(module, layout))
    try:
        functional_call(module, tensors, (images.train[:1].cpu(),))
    except ValueError as error:
        raise BadInput(
            f"members.factors.batch_size: leaves a batch of one image, and {network.name} cannot learn from it "
            f"({error}); wanted one that leaves more"
        ) from error


def runs_together(network: ModuleNetwork, activation: Activation | None, images: PreparedImages) -> bool:
    """Tell whether `torch.func.vmap` can run the network, by a step of two members."""
    recipe = Recipe(
        activation=activation,
        optimizer="sgd",
        batch_size=2,
        seed=np.arange(2),
        lr=np.zeros(2),
        weight_decay=np.zeros(2),
        dropout=np.zeros(2),
        num_train=np.full(2, 2),
    )
    learner = ModuleLearner(network, recipe, torch.device("cpu"))
    weights = read_vector(learner.module, learner.layout).expand(2, -1)
    batch, labels = images.train[:2].cpu(), images.train_labels[:2].cpu()
    try:
        learner.differentiate(weights, batch.expand(2, *batch.shape), labels.expand(2, 2), 0)
    except RuntimeError as error:
        logger.debug("%s under vmap: %s", network.name, error)
        return False
    return True


def count_fitting(config: ZooConfig, network: ModuleNetwork, images: PreparedImages, device: torch.device) -> int:
    """Count the members that fit a CUDA device's memory: a power of two, at most `MOST`."""
    batch, few = find_largest_batch(config), images.train[:2].cpu()
    size = max(measure_member(network, activation, few, batch) for activation in list_activations(config))
    room = SHARE * torch.cuda.get_device_properties(device).total_memory
    return min(MOST, 2 ** max(0, int(np.log2(max(1.0, room / size)))))


def measure_member(network: ModuleNetwork, activation: Activation | None, images: Tensor, batch_size: int) -> float:
    """Measure the bytes that one member takes: its vectors, and what a batch leaves for the backward pass."""
    module, saved = build_module(network, activation).train(), dict[int, int]()

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = module(images)
    held = sum(saved.values()) - sum(saved.get(one.data_ptr(), 0) for one in module.parameters())
    del logits
    return COPIES * held * batch_size / len(images) + VECTORS * 4 * lay_out_network(network).num_weights
