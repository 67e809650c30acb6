"""Differentiate the loss of many members of one network on a batch of images each."""

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from weightspace.layout import Layout
from weightspace.networks import Architecture, build_layout, run_networks, trace_shapes
from weightspace.zoo.kinds import ModuleNetwork, Network, build_module, lay_out_network
from weightspace.zoo.member_dropout import begin_step
from weightspace.zoo.modules import name_tensors
from weightspace.zoo.training import Recipe, draw_keep

logger = logging.getLogger(__name__)
Named = dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a batch of each member leaves, before any step."""

    gradient: Float32[Tensor, "members weights"]
    """Of each member's mean loss on its own batch."""
    weights: Float32[Tensor, "members weights"]
    """As they were, with the buffers that the batch leaves."""
    loss: Float32[Tensor, " members"]
    """Mean cross-entropy over the batch."""
    right: Int64[Tensor, " members"]
    """How many of its images were told rightly."""


class Learner(Protocol):
    """What knows the networks that learn."""

    @property
    def trained(self) -> Bool[Tensor, " weights"] | None:
        """Tell which numbers of a vector are trained; None: all."""
        ...

    def differentiate(
        self,
        weights: Float32[Tensor, "members weights"],
        images: Float32[Tensor, "members batch channels height width"],
        labels: Int64[Tensor, "members batch"],
        step: int,
    ) -> Lesson:
        """Differentiate each member's mean loss on its own batch."""
        ...


def make_learner(network: Network, recipe: Recipe, device: torch.device) -> Learner:
    """Make what differentiates members of a network that share a recipe."""
    if isinstance(network, Architecture):
        return ChainLearner(network, recipe)
    return ModuleLearner(network, recipe, device)


class ChainLearner:
    """Differentiates chains of blocks, all members in one pass."""

    trained = None

    def __init__(self, architecture: Architecture, recipe: Recipe) -> None:
        self.architecture, self.recipe, self.layout = architecture, recipe, build_layout(architecture)

    def differentiate(
        self,
        weights: Float32[Tensor, "members weights"],
        images: Float32[Tensor, "members batch channels height width"],
        labels: Int64[Tensor, "members batch"],
        step: int,
    ) -> Lesson:
        """See `Learner`."""
        assert self.recipe.activation is not None
        leaf = weights.detach().requires_grad_()
        masks = self.draw_masks(images.shape[1], step, weights.device)
        logits = run_networks(self.architecture, self.layout.split(leaf), images, self.recipe.activation, masks)
        loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        gradient = torch.autograd.grad(loss.sum(), leaf)[0]
        return Lesson(gradient, weights, loss.detach(), (logits.argmax(2) == labels).sum(1))

    def draw_masks(
        self, batch: int, step: int, device: torch.device
    ) -> dict[int, Float32[Tensor, "members batch features"]]:
        """Draw dropout factors of one step: 0, or 1 / (1 - rate)."""
        rate = self.recipe.dropout[:, None, None]
        if not rate.any():
            return {}
        seed = self.recipe.seed.astype(np.uint64)[:, None, None]
        image = np.arange(batch, dtype=np.uint64)[:, None]
        masks = {}
        for block, (channels, height, width) in enumerate(trace_shapes(self.architecture)[1:]):
            if self.architecture.blocks[block].dropout:
                unit = np.arange(channels * height * width, dtype=np.uint64) | np.uint64(block << 16)
                keep = draw_keep(seed, step, image, unit, rate)
                masks[block] = torch.from_numpy((keep / (1 - rate)).astype(np.float32)).to(device)
        return masks


class ModuleLearner:
    """Differentiates torch modules: one member as torch does, several under `torch.func.vmap`.

    What a member computes among others depends on how many there are, to the last bits: kernels differ. Members of one
    zoo are therefore always so many at a time, see `together.choose_together`.
    """

    def __init__(self, network: ModuleNetwork, recipe: Recipe, device: torch.device) -> None:
        self.layout: Layout = lay_out_network(network)
        self.module: nn.Module = build_module(network, recipe.activation).to(device).train()
        self.trained = self.layout.mask_trained(device)
        self.seeds = torch.from_numpy(recipe.seed).to(device)
        kept, places = self.module.state_dict(), {place.name for place in self.layout.places}
        self.counters: Named = {
            name: buffer.expand(len(self.seeds), *buffer.shape).clone()
            for name, buffer in kept.items()
            if name not in places and not buffer.is_floating_point()
        }
        """State that is no part of the vector, such as how many batches a norm has seen."""

    def differentiate(
        self,
        weights: Float32[Tensor, "members weights"],
        images: Float32[Tensor, "members batch channels height width"],
        labels: Int64[Tensor, "members batch"],
        step: int,
    ) -> Lesson:
        """See `Learner`."""
        tensors = name_tensors(self.module, self.layout, weights.detach())
        learnt = {place.name for place in self.layout.places if place.trained}
        trained = {name: tensor for name, tensor in tensors.items() if name in learnt}
        state = {name: tensor for name, tensor in tensors.items() if name not in learnt} | self.counters
        given = (trained, state, images, labels, self.seeds)
        if len(weights) == 1:
            first: list[Any] = [{n: t[0] for n, t in one.items()} if isinstance(one, dict) else one[0] for one in given]
            found, loss, (after, right) = self.differentiate_one(*first, step=step)
            found, after = ({n: t[None] for n, t in one.items()} for one in (found, after))
            loss, right = loss[None], right[None]
        else:
            differentiate = grad_and_value(self.measure_loss, has_aux=True)
            run = vmap(differentiate, in_dims=(0, 0, 0, 0, 0, None), randomness="error")
            found, (loss, (after, right)) = run(*given, step)
        self.counters = {name: after[name] for name in self.counters}
        still = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name not in learnt}
        shapes = {place.name: (len(weights), *place.shape) for place in self.layout.places}
        gradient, moved = (
            {n: t.reshape(shapes[n]) for n, t in one.items() if n in shapes}
            for one in ({**still, **found}, {**tensors, **after})
        )
        return Lesson(self.layout.join(gradient), self.layout.join(moved), loss, right)

    def measure_loss(
        self, trained: Named, state: Named, images: Tensor, labels: Tensor, seed: Tensor, step: int
    ) -> tuple[Tensor, tuple[Named, Tensor]]:
        """Measure one member's mean loss; also returns its state after the batch, and how many answers were right."""
        state = {name: tensor.clone() for name, tensor in state.items()}
        begin_step(self.module, seed, step)
        logits = functional_call(self.module, {**trained, **state}, (images,))
        return F.cross_entropy(logits, labels), (state, (logits.argmax(1) == labels).sum())

    def differentiate_one(
        self, trained: Named, state: Named, images: Tensor, labels: Tensor, seed: Tensor, step: int
    ) -> tuple[Named, Tensor, tuple[Named, Tensor]]:
        """Differentiate one member's loss as torch's optimizers see it; also returns what `measure_loss` does."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in trained.items()}
        loss, rest = self.measure_loss(leaves, state, images, labels, seed, step)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, found, strict=True)), loss.detach(), rest
