"""Embed the checkpoints of a weight data set, and measure what their reconstructions lose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from weightspace.config import BadInput
from weightspace.embeddings.config import EmbeddingsConfig
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.kept import Rebuild, compare_networks
from weightspace.embeddings.reconstruction import (
    ALL_LAYERS,
    PrincipalComponents,
    fit_components,
    measure_errors,
    tabulate_errors,
)
from weightspace.embeddings.summary import summarize_tokens
from weightspace.hyperrep.hyperrep import Hyperrep, choose_hyperrep
from weightspace.images.image_set import ImageSet
from weightspace.store import Checkpoints
from weightspace.weights.weight_data import WeightData


@dataclass(frozen=True)
class Embedded:
    """What the stage leaves of the networks of one layout."""

    embeddings: Embeddings
    """In the order of the data set."""
    errors: pd.DataFrame
    """Of reconstruction, by checkpoint, method and layer."""
    kept: pd.DataFrame | None
    """What some members and their reconstructions do on images, by member and method; None where none were run."""


def embed_checkpoints(
    data: WeightData,
    hyperrep: Hyperrep,
    untrained: Hyperrep | None,
    config: EmbeddingsConfig,
    images: ImageSet | None = None,
) -> Embedded:
    """Embed the checkpoints that have not diverged.

    Args:
        untrained: the same before its first step, by which networks are summed up too; None does without.
        images: to run networks and their reconstructions on; None runs none.

    Raises:
        BadInput: the model learned from another layout, its window cannot hold the halo, or the images do not fit.
    """
    where = f"weights/{config.weights}"
    hyperrep.check_layout(data.checkpoints.layout, where)
    hyperrep.check_origin(data.about, where)
    kept = data.checkpoints.select(~data.checkpoints.table["diverged"].to_numpy(dtype=bool))
    weights = torch.from_numpy(kept.weights)
    latents, features = hyperrep.embed(weights, config.halo, config.networks_at_once)
    components = fit_baseline(kept, latents[0].numel(), hyperrep) if config.reconstruction_baseline else None
    errors = measure_reconstructions(kept, latents, components, hyperrep, config)
    whole = errors[(errors["method"] == "hyperrep") & (errors["layer"] == ALL_LAYERS)]
    table = kept.table.assign(reconstruction_error=np.asarray(whole["error"]))
    summary = summarize_tokens(latents, features, hyperrep.tokenizer, config.summary)
    baseline = None if untrained is None else sum_up(untrained, weights, config)
    embeddings = Embeddings(table, summary.cpu().numpy(), latents.cpu().numpy(), baseline)
    if images is None:
        return Embedded(embeddings, errors, None)
    rebuild = list_rebuilders(hyperrep, untrained, components, config)
    return Embedded(embeddings, errors, compare_networks(kept, rebuild, hyperrep, images, config))


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


def embed_layouts(
    data: Mapping[str, WeightData],
    hyperreps: Mapping[str, Hyperrep],
    untrained: Mapping[str, Hyperrep] | None,
    config: EmbeddingsConfig,
    images: ImageSet | None = None,
) -> dict[str, Embedded]:
    """Embed the checkpoints of each layout of a weight data set; as `embed_checkpoints`.

    Layers go by the name of their layout, too, where there are several.

    Raises:
        BadInput: a layout is none that the model learned from, or summaries would not have one length.
    """
    where = f"weights/{config.weights}"
    if len(data) > 1:
        check_summary(config, [*hyperreps.values()], list(data))
    found: dict[str, Embedded] = {}
    for name, part in data.items():
        hyperrep = choose_hyperrep(hyperreps, part.layout, where)
        bare = None if untrained is None else choose_hyperrep(untrained, part.layout, where)
        found[name] = embed_checkpoints(part, hyperrep, bare, config, images)
        if len(data) > 1:
            errors = found[name].errors
            errors["layer"] = errors["layer"].where(errors["layer"] == ALL_LAYERS, f"{name}/" + errors["layer"])
    return found


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


def measure_reconstructions(
    kept: Checkpoints,
    latents: Float[Tensor, "networks tokens d_latent"],
    components: PrincipalComponents | None,
    hyperrep: Hyperrep,
    config: EmbeddingsConfig,
) -> pd.DataFrame:
    """Tabulate what decoding the latents loses, beside principal components with as many numbers a network."""
    layout, statistics = hyperrep.layout, hyperrep.statistics
    standard = statistics.standardize(layout, torch.from_numpy(kept.weights).to(hyperrep.device))
    train = standard[torch.from_numpy(np.flatnonzero(kept.table["split"] == "train")).to(hyperrep.device)]
    decoded = hyperrep.decode(latents, config.halo, config.networks_at_once)
    reconstructed = {"hyperrep": statistics.standardize(layout, decoded)}
    if components is not None:
        reconstructed["pca"] = components.reconstruct(standard)
    mean = train.mean(0)
    parts = [
        tabulate_errors(kept.table, method, measure_errors(layout, standard, weights, mean))
        for method, weights in reconstructed.items()
    ]
    return pd.concat(parts, ignore_index=True)
