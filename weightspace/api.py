"""Use a trained hyper-representation on networks of any form: `Hyperrep.load(path).embed(networks)`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from weightspace.config import BadInput
from weightspace.device import resolve_device
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.summary import summarize_tokens
from weightspace.hyperrep import hyperrep as trained
from weightspace.hyperrep.bring import has_order, has_scale, order_units
from weightspace.layout import Layout
from weightspace.networks import read_chain
from weightspace.networks_in import Networks, TakenNetworks, take_networks
from weightspace.record import RECORD_NAME, read_record
from weightspace.samples.anchors import Anchors
from weightspace.samples.config import KdeIndependent, KdeJoint, RelativeBandwidth
from weightspace.samples.samplers import sample_latents
from weightspace.schema import LAYOUT
from weightspace.store import Checkpoints
from weightspace.weights.canonical import CanonicalForm, Signs, Symmetry, turn_signs, undo_scale, weigh_units
from weightspace.weights.permute import invert_permutations, keep_places, permute_weights

SAMPLERS = {"kde_joint": KdeJoint, "kde_independent": KdeIndependent}


@dataclass(frozen=True)
class Brought:
    """Networks in the form in which a model knows networks, and the way back."""

    layout: Layout
    weights: Float32[Tensor, "networks weights"]
    symmetry: Symmetry
    """What was done to the signs and the order of units."""
    scales: dict[str, Float64[Tensor, "networks size"]]
    """What brings units back to their scales; none where scales were left alone."""

    def give_back(self, weights: Float[Tensor, "networks weights"]) -> Float[Tensor, "networks weights"]:
        """Bring other weights to the order, signs and scales in which the networks came."""
        back = permute_weights(self.layout, weights, invert_permutations(self.symmetry.orders))
        back = turn_signs(self.layout, back, self.symmetry.signs)
        if not self.scales:
            return back
        scaled = back.double()
        for name, factors in self.scales.items():
            weigh_units(self.layout, scaled, name, factors)
        return scaled.to(weights.dtype)


@dataclass(frozen=True)
class Hyperrep:
    """A trained hyper-representation that takes networks as they come.

    Networks are state dicts, modules or paths of `.safetensors` or `.pt` files (nothing in them is executed), alone or
    in a list; or the folder of a Parquet data set. Each is laid out, brought to the canonical form of the networks that
    the model learned from, aligned to the saved reference and standardised. Where the model learned from several
    layouts, each network goes by the one it fits. Of a data set, all checkpoints of a member are aligned as its last
    one is, and those that are marked as diverged are left out.

    Where the model learned from networks of canonical scale or sign, the way there depends on a network's activation.
    A data set tells it; for other networks say `activation`, unless the model learned from networks of one only.
    """

    models: Mapping[str, trained.Hyperrep]
    """By layout; all are one model."""

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", *, model: str = trained.MODEL_NAME) -> Self:
        """Read what the hyperrep stage made.

        Args:
            device: `auto`, `cpu`, `cuda` or `cuda:n`.
            model: `last.safetensors` for the model after its last step, `untrained.safetensors` before its first.

        Raises:
            BadInput: a file is missing, cut short or altered, or the machine has no such device.
        """
        folder = Path(path)
        if (folder / RECORD_NAME).is_file():
            read_record(folder)
        return cls(trained.load_hyperreps(folder, resolve_device(device), model))

    @property
    def layouts(self) -> dict[str, Layout]:
        """Names and shapes of the tensors that it takes, for each architecture."""
        return {name: model.layout for name, model in self.models.items()}

    def embed(
        self,
        networks: Networks,
        *,
        summary: Literal["features", "latents", "pooled"] = "features",
        halo: int = 0,
        activation: str | None = None,
    ) -> Embeddings:
        """Give each network its latent tokens and one vector that sums them up.

        Args:
            summary: as in `EmbeddingsConfig`.
            halo: tokens of context on each side of a window; of no account where one window holds a network.
            activation: see above.

        Returns:
            `summary` and `tokens` as arrays, and a `table` with `member` (the path of a file), the columns of a data
            set, and `lost`: the part of a network that its reconstruction misses, as squared error over squares of the
            standardised weights; large for a network that is unlike those the model learned from. Where the model
            knows several layouts, a column `layout` says which it is, and `tokens` is None if there are several.

        Raises:
            BadInput: a network cannot be read, does not fit a layout, or has weights that are not finite; or networks
                of several layouts would have summaries of several lengths.
        """
        taken = take_networks(networks, self.layouts)
        parts = [self.embed_part(part, summary, halo, activation) for part in taken]
        if len({part.summary.shape[1] for part in parts}) > 1:
            raise BadInput(
                f"summary: got {summary!r} for networks of several layouts, of which each has another length; wanted "
                "'pooled'"
            )
        if len(parts) == 1:
            return parts[0]
        order = np.concatenate([part.places for part in taken]).argsort()
        table = pd.concat([part.table for part in parts], ignore_index=True).iloc[order].reset_index(drop=True)
        return Embeddings(table, np.concatenate([part.summary for part in parts])[order], None, None)

    def embed_part(
        self,
        taken: TakenNetworks,
        summary: Literal["features", "latents", "pooled"],
        halo: int,
        activation: str | None,
    ) -> Embeddings:
        """Embed networks of one layout."""
        model = self.models[taken.name]
        aligned = bring_networks(model, taken, activation).weights
        latents, features = model.embed(aligned, halo)
        lost = measure_lost(model, aligned, model.decode(latents, halo))
        summed = summarize_tokens(latents, features, model.tokenizer, summary)
        table = taken.table.assign(lost=lost)
        if len(self.models) > 1:
            table[LAYOUT] = taken.name
        return Embeddings(table, summed.cpu().numpy(), latents.cpu().numpy(), None)

    def reconstruct(
        self, networks: Networks, *, halo: int = 0, activation: str | None = None
    ) -> list[dict[str, Tensor]] | Checkpoints | dict[str, Checkpoints]:
        """Encode networks and decode them again.

        Returns:
            One state dict a network, with the names, the other entries and the order, signs and scales of units that it
            came with, so that its module loads it and its tensors can be compared one by one; of a data set, its
            checkpoints, by layout if it has several.

        Raises:
            BadInput: as `embed`.
        """
        states: dict[int, dict[str, Tensor]] = {}
        checkpoints: dict[str, Checkpoints] = {}
        for taken in take_networks(networks, self.layouts):
            model, brought = self.models[taken.name], bring_networks(self.models[taken.name], taken, activation)
            back = brought.give_back(model.reconstruct(brought.weights, halo).cpu())
            found = taken.give_back(back, np.arange(len(back)))
            if isinstance(found, Checkpoints):
                checkpoints[taken.name] = found
            else:
                states |= dict(zip(taken.places.tolist(), found, strict=True))
        if states:
            return [states[place] for place in sorted(states)]
        return checkpoints if len(checkpoints) > 1 else next(iter(checkpoints.values()))

    def sample(
        self,
        anchors: Networks,
        num: int,
        *,
        bandwidth: float,
        kind: Literal["kde_joint", "kde_independent"] = "kde_joint",
        seed: int = 0,
        halo: int = 0,
        activation: str | None = None,
    ) -> list[dict[str, Tensor]] | Checkpoints:
        """Draw new networks around the latents of some, each around anchors of one activation if a data set tells it.

        Args:
            bandwidth: standard deviation of the noise, as part of that of the anchors' latents, number by number.
            kind: `kde_joint` adds it to one anchor's latents; `kde_independent` takes each number from an anchor of
                its own.

        Returns:
            State dicts in the form of an anchor each; of a data set, checkpoints with a column `sample`, `member` and
            the rest being those of the anchor. Units have the order, signs and scales that the model knows.

        Raises:
            BadInput: as `embed`; or the anchors have several layouts.
        """
        taken, *others = take_networks(anchors, self.layouts)
        if others:
            names = ", ".join(part.name for part in (taken, *others))
            raise BadInput(f"anchors: got networks of several layouts, {names}; wanted those of one")
        model = self.models[taken.name]
        aligned = bring_networks(model, taken, activation).weights
        latents = model.encode(aligned, halo).cpu().numpy()
        table = taken.table if "activation" in taken.table else taken.table.assign(activation="")
        sampler = SAMPLERS[kind](kind=kind, bandwidth=RelativeBandwidth(kind="relative", value=bandwidth))
        found = Anchors(table, aligned.numpy(), latents)
        drawn, picks = sample_latents(sampler, found, num, np.random.default_rng(seed))
        return taken.give_back(model.decode(torch.from_numpy(drawn), halo), picks, sample=np.arange(num))


def bring_networks(model: trained.Hyperrep, taken: TakenNetworks, activation: str | None) -> Brought:
    """Bring networks to the form in which the model knows networks.

    Those of a data set that was made like the one it learned from have it already, wholly or but for the order of
    units.

    Raises:
        BadInput: the form depends on an activation or an architecture that is not known.
    """
    origin, layout, weights = model.origin, model.layout, taken.weights
    if origin is None or has_order(model, taken.about, taken.reference):
        return Brought(layout, weights, Symmetry(keep_places(layout, len(weights), weights.device), {}), {})
    leaders, place = np.unique(taken.leaders, return_inverse=True)
    scaled, signs, scales = weights, Signs(), {}
    if not has_scale(model, taken.about):
        activations = tell_activations(model, taken, activation)
        form = CanonicalForm(layout, read_chain(model.architecture), origin.canonical)
        scaled = form.scale(weights, activations)
        signs = form.find_signs(scaled[torch.from_numpy(leaders)], [activations[leader] for leader in leaders])
        scales = undo_scale(layout, weights, scaled) if origin.canonical.scale else {}
    orders = order_units(model, turn_signs(layout, scaled[torch.from_numpy(leaders)], signs))
    symmetry = Symmetry(orders, signs).take(torch.from_numpy(place))
    return Brought(layout, symmetry.apply(layout, scaled), symmetry, scales)


def tell_activations(model: trained.Hyperrep, taken: TakenNetworks, activation: str | None) -> list[object]:
    """Say which activation each network has, where its canonical form depends on it.

    Raises:
        BadInput: it is not known.
    """
    origin, num = model.origin, len(taken.table)
    assert origin is not None
    if not (origin.canonical.scale or origin.canonical.orient):
        return [None] * num
    if "activation" in taken.table:
        return taken.table["activation"].tolist()
    if activation is None and len(model.activations) == 1:
        return [model.activations[0]] * num
    if activation is None or (model.activations and activation not in model.activations):
        got = "none" if activation is None else repr(activation)
        known = ", ".join(model.activations) or "the one that the networks have"
        raise BadInput(
            f"activation: got {got}, wanted {known}; the model learned from networks of canonical scale or sign, which "
            "depends on it"
        )
    return [activation] * num


def measure_lost(
    model: trained.Hyperrep,
    weights: Float[Tensor, "networks weights"],
    decoded: Float[Tensor, "networks weights"],
) -> Float32[np.ndarray, " networks"]:
    """Measure squared error over squares, both of standardised weights."""
    standard, back = (model.statistics.standardize(model.layout, one.to(model.device)) for one in (weights, decoded))
    return ((back - standard).square().sum(1) / standard.square().sum(1)).cpu().numpy()
