"""Describe checkpoints by numbers that a probe can read: embeddings and the baselines beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int64

from weightspace.config import BadInput
from weightspace.embeddings.embeddings import Embeddings
from weightspace.embeddings.lookup import find_checkpoints
from weightspace.factors import NUMBER_FACTORS, WORD_FACTORS
from weightspace.probes.config import FeatureName, ProbesConfig
from weightspace.probes.statistics import StatisticsKind, summarize_layers
from weightspace.store import Checkpoints
from weightspace.weights.weight_data import WeightData

LOG_FACTORS = ("lr", "weight_decay")
ANY_LAYOUT: tuple[FeatureName, ...] = ("embedding", "untrained_encoder", "factors", "epoch_only", "factors_epoch")
"""As many numbers for a network of any layout, as long as the summary of its embedding is."""
WeightFeature = Literal["weights", "last_layer"] | StatisticsKind


@dataclass(frozen=True)
class ProbeData:
    """Checkpoints that probes learn from and are judged by, with their embeddings."""

    table: pd.DataFrame
    networks: Checkpoints | None
    """The same rows with their weights; None where there are several layouts."""
    summary: Float32[np.ndarray, "checkpoints d_summary"]
    tokens: Float32[np.ndarray, "checkpoints tokens d_latent"] | None
    """None where there are several layouts."""
    untrained: Float32[np.ndarray, "checkpoints d_summary"] | None

    def rows(self, split: str) -> Int64[np.ndarray, " rows"]:
        """Number the rows of one side of the split."""
        return np.flatnonzero(self.table["split"] == split)


@dataclass(frozen=True)
class Features:
    """One set of features."""

    name: str
    values: Float[np.ndarray, "checkpoints features"]
    answers: tuple[str, ...]
    """For each column the target that it states outright; empty where it states none."""

    def leave_out(self, target: str) -> "Features":
        """Drop the columns that state a target."""
        keep = [i for i, answer in enumerate(self.answers) if answer != target]
        return Features(self.name, self.values[:, keep], tuple(self.answers[i] for i in keep))


def gather_probe_data(
    config: ProbesConfig, data: Mapping[str, WeightData] | WeightData, embeddings: Embeddings
) -> ProbeData:
    """Choose the epochs of a configuration, leave out what diverged, and find the embedding of each checkpoint.

    Args:
        data: of several layouts, by name.

    Raises:
        BadInput: a checkpoint has no embedding, too few members remain, or features are of networks of one layout only
            where there are several.
    """
    parts = [data] if isinstance(data, WeightData) else [*data.values()]
    if len(parts) > 1:
        check_features(config)
    table = parts[0].table if len(parts) == 1 else pd.concat([part.table for part in parts], ignore_index=True)
    steps = table["epoch"].to_numpy() - config.first_epoch
    keep = ~table["diverged"].to_numpy(bool) & (steps >= 0) & (steps % config.every_epochs == 0)
    # Rows of one member lie together, which the pair counts behind Kendall's tau rely on.
    order = np.lexsort((table["epoch"].to_numpy(), table["member"].to_numpy(str)))
    order = order[keep[order]]
    places = find_checkpoints(table.iloc[order], embeddings.table, config.embeddings)
    chosen = table.iloc[order].reset_index(drop=True)
    check_members(chosen, config)
    networks = parts[0].checkpoints.select(order) if len(parts) == 1 else None
    summary, tokens = embeddings.summary[places], None if embeddings.tokens is None else embeddings.tokens[places]
    untrained = None if embeddings.untrained is None else embeddings.untrained[places]
    if untrained is None and "untrained_encoder" in config.features:
        raise BadInput(
            f"features: untrained_encoder, wanted `untrained_baseline: true` in embeddings {config.embeddings}"
        )
    return ProbeData(chosen, networks, summary, tokens, untrained)


def check_features(config: ProbesConfig) -> None:
    """Refuse features whose number follows from the layout of a network, where there are several.

    Raises:
        BadInput: naming them.
    """
    unfit = [name for name in config.features if name not in ANY_LAYOUT]
    if unfit:
        raise BadInput(
            f"features: got {', '.join(unfit)}, which networks of several layouts have not as many of; weights "
            f"{config.weights} has several; wanted some of {', '.join(ANY_LAYOUT)}"
        )


def check_members(table: pd.DataFrame, config: ProbesConfig) -> None:
    """Refuse a data set with too few members on some side to fit, choose and judge a probe."""
    for split in ("train", "val", "test"):
        count = table.loc[table["split"] == split, "member"].nunique()
        if count < 2:
            raise BadInput(
                f"weights {config.weights}: {count} members on side {split} with checkpoints from epoch "
                f"{config.first_epoch} on, wanted at least 2"
            )


def build_features(name: FeatureName, data: ProbeData) -> Features:
    """Make one set of features for all checkpoints.

    Raises:
        BadInput: some are not finite.
    """
    values, answers = compute_columns(name, data)
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        first = data.table.iloc[int(np.flatnonzero(bad)[0])]
        raise BadInput(
            f"features {name}: not finite for member {first['member']} at epoch {first['epoch']}; "
            "bound the weights of the weight data set"
        )
    return Features(name, values, answers)


def compute_columns(
    name: FeatureName, data: ProbeData
) -> tuple[Float32[np.ndarray, "checkpoints features"], tuple[str, ...]]:
    """Compute one set of features, and what each of its columns states outright."""
    if name in ("factors", "epoch_only", "factors_epoch"):
        return state_factors(data, factors=name != "epoch_only", epochs=name != "factors")
    match name:
        case "embedding":
            values = data.summary
        case "embedding_tokens":
            assert data.tokens is not None
            values = data.tokens.reshape(len(data.tokens), -1)
        case "untrained_encoder":
            assert data.untrained is not None
            values = data.untrained
        case _:
            assert data.networks is not None
            values = describe_weights(name, data.networks)
    return values, ("",) * values.shape[1]


def describe_weights(name: WeightFeature, networks: Checkpoints) -> Float32[np.ndarray, "checkpoints features"]:
    """Compute a set of features that comes from the weights themselves."""
    layout = networks.layout
    match name:
        case "weights":
            return networks.weights
        case "last_layer":
            return networks.weights[:, layout.layer_slice(layout.num_layers - 1)]
        case _:
            return summarize_layers(layout, networks.weights, name)


def state_factors(
    data: ProbeData, factors: bool, epochs: bool
) -> tuple[Float32[np.ndarray, "checkpoints features"], tuple[str, ...]]:
    """Write factors and epoch as numbers, and what each column states outright.

    Raises:
        BadInput: no factor is known of all members.
    """
    parts: list[np.ndarray] = []
    answers: list[str] = []
    train = data.rows("train")
    for column, values in list_factors(data.table, train, factors, epochs):
        parts.append(values)
        answers += [column] * values.shape[1]
    if not parts:
        raise BadInput("features factors: no factor is known of all members, wanted these features left out")
    return np.concatenate(parts, axis=1).astype(np.float32), tuple(answers)


def list_factors(
    table: pd.DataFrame, train: Int64[np.ndarray, " rows"], factors: bool, epochs: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each factor as columns: words one-hot, numbers as they are or as logarithms, the epoch both ways.

    A factor that is not known of all checkpoints, as in foreign zoos, is left out. The one-hot epoch lets a linear
    probe follow any mean learning curve.
    """
    known = set(table.columns[table.notna().all()])
    for name in WORD_FACTORS if factors else ():
        if name in known:
            yield name, mark_values(table[name].to_numpy(), train)
    for name in NUMBER_FACTORS if factors else ():
        if name in known:
            yield name, read_number(table, name)[:, None]
    if epochs:
        epoch = table["epoch"].to_numpy()
        yield "epoch", np.concatenate([mark_values(epoch, train), epoch[:, None]], axis=1)


def mark_values(values: np.ndarray, train: Int64[np.ndarray, " rows"]) -> np.ndarray:
    """Write a column one-hot over the values that train rows have."""
    return values[:, None] == np.unique(values[train])[None, :]


def read_number(table: pd.DataFrame, name: str) -> np.ndarray:
    """Read a column of numbers; `lr` and `weight_decay` as logarithms to base 10 where all are above 0."""
    values = table[name].to_numpy(np.float64)
    return np.log10(values) if name in LOG_FACTORS and (values > 0).all() else values
