"""Embed the checkpoints of a weight data set, and measure what their reconstructions lose."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from weightspace.config import BadInput
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.kept import Rebuild, average_train, compare_networks
from weightspace.embeddings.reconstruction import (
    ALL_LAYERS,
    PrincipalComponents,
    fit_components,
    measure_errors,
    tabulate_errors,
)
from weightspace.embeddings.summary import summarize_tokens
from weightspace.hyperrep.bring import has_order, reorder_checkpoints
from weightspace.hyperrep.hyperrep import Hyperrep, choose_hyperrep
from weightspace.images.image_set import ImageSet
from weightspace.store import Checkpoints
from weightspace.weights.weight_data import WeightData

PART_NETWORKS = 4096
"""A part has at most so many, but never less than go through the model together."""
ERROR = "error/"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """What the stage leaves of the networks of one layout."""

    embeddings: Embeddings
    """In the order of the data set."""
    errors: pd.DataFrame
    """Of reconstruction, by checkpoint, method and layer."""
    kept: pd.DataFrame | None
    """What some members and their reconstructions do on images, by member and method; None where none were run."""


@dataclass(frozen=True)
class Part:
    """What a hyper-representation says of some checkpoints."""

    latents: Float32[np.ndarray, "checkpoints tokens d_latent"]
    summary: Float32[np.ndarray, "checkpoints d_summary"]
    untrained: Float32[np.ndarray, "checkpoints d_summary"] | None
    errors: Mapping[str, Float32[np.ndarray, " checkpoints"]]
    """Of reconstruction, by layer, as `measure_errors` has them."""


@dataclass(frozen=True)
class Embedder:
    """Embeds the checkpoints of one layout, a part at a time."""

    kept: Checkpoints
    """Those that have not diverged, their units in the order that the model knows."""
    hyperrep: Hyperrep
    untrained: Hyperrep | None
    """The same before its first step, by which networks are summed up too; None does without."""
    config: EmbeddingsConfig

    def list_cuts(self) -> range:
        """List where parts begin. Batches are the same as without parts."""
        at_once = self.config.networks_at_once
        return range(0, len(self.kept.table), max(1, PART_NETWORKS // at_once) * at_once)

    @cached_property
    def mean(self) -> Float[Tensor, " weights"]:
        """The mean of all standardised train checkpoints."""
        return average_train(self.kept, self.hyperrep)

    def embed(self, cut: int) -> Part:
        """Embed the part that begins with a checkpoint, and measure what decoding its latents loses."""
        hyperrep, config, step = self.hyperrep, self.config, self.list_cuts().step
        weights = torch.from_numpy(self.kept.weights[cut : cut + step])
        latents, features = hyperrep.embed(weights, config.halo, config.networks_at_once)
        summary = summarize_tokens(latents, features, hyperrep.tokenizer, config.summary)
        baseline = None if self.untrained is None else sum_up(self.untrained, weights, config)
        decoded = hyperrep.decode(latents, config.halo, config.networks_at_once)
        layout, standardize = hyperrep.layout, hyperrep.statistics.standardize
        standard = standardize(layout, weights.to(hyperrep.device))
        errors = measure_errors(layout, standard, standardize(layout, decoded), self.mean)
        return Part(latents.cpu().numpy(), summary.cpu().numpy(), baseline, errors)

    def join(self, parts: Sequence[Part], images: ImageSet | None) -> Embedded:
        """Put all parts together, beside principal components with as many numbers a network.

        Args:
            images: to run networks and their reconstructions on; None runs none.

        Raises:
            BadInput: the images do not fit.
        """
        kept, hyperrep, config = self.kept, self.hyperrep, self.config
        latents = np.concatenate([part.latents for part in parts])
        found = {"hyperrep": {layer: np.concatenate([p.errors[layer] for p in parts]) for layer in parts[0].errors}}
        components = fit_baseline(kept, latents[0].size, hyperrep) if config.reconstruction_baseline else None
        if components is not None:
            weights = torch.from_numpy(kept.weights).to(hyperrep.device)
            standard = hyperrep.statistics.standardize(hyperrep.layout, weights)
            found["pca"] = measure_errors(hyperrep.layout, standard, components.reconstruct(standard), self.mean)
        errors = pd.concat([tabulate_errors(kept.table, *item) for item in found.items()], ignore_index=True)
        table = kept.table.assign(reconstruction_error=found["hyperrep"][ALL_LAYERS])
        baseline = [part.untrained for part in parts if part.untrained is not None]
        summary = np.concatenate([part.summary for part in parts])
        embeddings = Embeddings(table, summary, latents, np.concatenate(baseline) if baseline else None)
        if images is None:
            return Embedded(embeddings, errors, None)
        rebuild = list_rebuilders(hyperrep, self.untrained, components, config)
        return Embedded(embeddings, errors, compare_networks(kept, rebuild, hyperrep, images, config))


def prepare_embedder(
    data: WeightData, hyperrep: Hyperrep, untrained: Hyperrep | None, config: EmbeddingsConfig
) -> Embedder:
    """Select what is embedded, align it as the model's own networks were, and check that it can be embedded.

    Raises:
        BadInput: the model learned from networks of another layout or canonical form.
    """
    where = f"weights/{config.weights}"
    hyperrep.check_layout(data.checkpoints.layout, where)
    hyperrep.check_origin(data.about, where)
    kept = data.checkpoints.select(~data.checkpoints.table["diverged"].to_numpy(dtype=bool))
    if not has_order(hyperrep, data.about, data.reference):
        logger.info("%s: aligned otherwise than what the model learned from, so aligned again as that was", where)
        kept = reorder_checkpoints(hyperrep, kept)
    return Embedder(kept, hyperrep, untrained, config)


def embed_checkpoints(
    data: WeightData,
    hyperrep: Hyperrep,
    untrained: Hyperrep | None,
    config: EmbeddingsConfig,
    images: ImageSet | None = None,
) -> Embedded:
    """Embed the checkpoints that have not diverged; see `Embedder`.

    Raises:
        BadInput: the model learned from another layout, its window cannot hold the halo, or the images do not fit.
    """
    embedder = prepare_embedder(data, hyperrep, untrained, config)
    return embedder.join([embedder.embed(cut) for cut in embedder.list_cuts()], images)


def write_part(path: Path, part: Part) -> None:
    """Write a part as a file of arrays, by name."""
    arrays = {"latents": part.latents, "summary": part.summary}
    if part.untrained is not None:
        arrays["untrained"] = part.untrained
    with path.open("wb") as file:
        errors = {ERROR + layer: values for layer, values in part.errors.items()}
        np.savez(file, allow_pickle=False, **arrays, **errors)


def read_part(path: Path) -> Part:
    """Read a part."""
    with np.load(path) as arrays:
        errors = {name.removeprefix(ERROR): arrays[name] for name in arrays.files if name.startswith(ERROR)}
        return Part(arrays["latents"], arrays["summary"], arrays.get("untrained"), errors)


def list_rebuilders(
    hyperrep: Hyperrep, untrained: Hyperrep | None, components: PrincipalComponents | None, config: EmbeddingsConfig
) -> dict[str, Rebuild]:
    """Name every way that networks are taken apart and put together again."""
    rebuild: dict[str, Rebuild] = {"hyperrep": partial(hyperrep.reconstruct, halo=config.halo)}
    if untrained is not None:
        rebuild["untrained"] = partial(untrained.reconstruct, halo=config.halo)
    if components is not None:
        layout, statistics = hyperrep.layout, hyperrep.statistics

        def project(weights: Tensor) -> Tensor:
            return statistics.restore(layout, components.reconstruct(statistics.standardize(layout, weights)))

        rebuild["pca"] = project
    return rebuild


def fit_baseline(kept: Checkpoints, num_components: int, hyperrep: Hyperrep) -> PrincipalComponents:
    """Fit principal components on the train checkpoints, standardised."""
    train = torch.from_numpy(kept.weights[(kept.table["split"] == "train").to_numpy()]).to(hyperrep.device)
    return fit_components(hyperrep.statistics.standardize(hyperrep.layout, train), num_components)


def prepare_layouts(
    data: Mapping[str, WeightData],
    hyperreps: Mapping[str, Hyperrep],
    untrained: Mapping[str, Hyperrep] | None,
    config: EmbeddingsConfig,
) -> dict[str, Embedder]:
    """Prepare to embed each layout of a weight data set, by name.

    Raises:
        BadInput: a layout is none that the model learned from, or summaries would not have one length.
    """
    where = f"weights/{config.weights}"
    if len(data) > 1:
        check_summary(config, [*hyperreps.values()], list(data))
    found: dict[str, Embedder] = {}
    for name, part in data.items():
        bare = None if untrained is None else choose_hyperrep(untrained, part.layout, where)
        found[name] = prepare_embedder(part, choose_hyperrep(hyperreps, part.layout, where), bare, config)
    return found


def name_layers(embedded: Mapping[str, Embedded]) -> None:
    """Have layers go by the name of their layout, too, where there are several."""
    for name, part in embedded.items() if len(embedded) > 1 else ():
        layer = part.errors["layer"]
        part.errors["layer"] = layer.where(layer == ALL_LAYERS, f"{name}/" + layer)


def check_summary(config: EmbeddingsConfig, hyperreps: Sequence[Hyperrep], layouts: Sequence[str]) -> None:
    """Refuse summaries whose length follows from the layout, where there are several.

    Raises:
        BadInput: naming the key.
    """
    one_latent = hyperreps[0].config.model.latent.kind == "network"
    if config.summary == "features" or (config.summary == "latents" and not one_latent):
        raise BadInput(
            f"summary: got {config.summary!r} for networks of several layouts, {', '.join(layouts)}, of which each has "
            "another length; wanted 'pooled'"
        )


def sum_up(
    hyperrep: Hyperrep, weights: Float[Tensor, "networks weights"], config: EmbeddingsConfig
) -> Float32[np.ndarray, "networks d_summary"]:
    """Sum networks up by a model, some at a time."""
    parts: list[np.ndarray] = []
    for some in weights.split(config.networks_at_once):
        latents, features = hyperrep.embed(some, config.halo, config.networks_at_once)
        parts.append(summarize_tokens(latents, features, hyperrep.tokenizer, config.summary).cpu().numpy())
    return np.concatenate(parts)
