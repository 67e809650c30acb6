"""Outputs of a study that nobody ran, in the formats of the real stages."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict

from weightspace.config import Config
from weightspace.layout import Layout, Place
from weightspace.record import Record, write_record
from weightspace.store import Checkpoints, write_part

ARCHITECTURE = {"name": "cnn_s", "blocks": [{"kind": "conv", "features": 8}, {"kind": "linear", "features": 10}]}
LAYERS = ("conv1", "fc1")
SAMPLE_ROWS = {  # row: mean accuracy, distance to the nearest anchor, shared errors
    "random_init": (0.10, np.nan, np.nan),
    "random_init_sane": (0.11, np.nan, np.nan),
    "anchors": (0.94, 0.0, 1.0),
    "anchors_reconstructed": (0.72, 0.4, 0.5),
    "unseen": (0.93, 1.0, 0.3),
    "unseen_reconstructed": (0.55, 1.1, 0.25),
    "kde_joint": (0.61, 0.5, 0.4),
    "kde_independent": (0.32, 0.9, 0.2),
    "kde_released": (0.70, 0.4, 0.5),
    "anchor_noise": (0.88, 0.2, 0.8),
    "anchor_average": (0.25, 0.7, 0.15),
}
TRANSFER_ROWS = {  # row: accuracy at epoch 0, at the end
    "scratch": (0.10, 0.60),
    "scratch_sane": (0.10, 0.92),
    "members": (0.45, 0.94),
    "anchors_reconstructed": (0.35, 0.925),
    "kde_joint": (0.30, 0.91),
    "kde_independent": (0.22, 0.90),
    "anchor_noise": (0.42, 0.935),
    "anchor_average": (0.15, 0.89),
}
FEATURES = (
    "embedding",
    "embedding_tokens",
    "weights",
    "statistics_14",
    "statistics_7",
    "statistics_pooled",
    "factors_epoch",
)


@dataclass(frozen=True)
class Plan:
    """How large the study is, and who wins."""

    num_members: int = 16
    num_epochs: int = 3
    num_samples: int = 8
    error: tuple[tuple[str, float], ...] = (("embedding", 0.2), ("embedding_tokens", 0.3), ("statistics_14", 0.1))
    """Size of the error of predictions from each feature set; others have 0.5."""
    stages: tuple[str, ...] = ("zoo", "weights", "hyperrep", "embeddings", "probes", "samples", "transfer")
    classes: bool = True
    unknown: tuple[int, int] = (0, 0)
    """Members whose test accuracy is not known, and from which epoch on."""
    recipe: dict[str, object] = field(default_factory=dict)
    """What the zoo says of its recipe."""
    recipes: bool = False
    """Whether members also differ in what a zoo may leave out: schedule, label noise, augmentation."""


class AnyConfig(Config):
    """A configuration of whatever stage."""

    model_config = ConfigDict(frozen=True, extra="allow")


def write_study(root: Path, plan: Plan) -> Path:
    """Write the outputs of a made-up study below `root/data`; returns that folder."""
    rng = np.random.default_rng(7)
    data = root / "data"
    table = make_table(plan, rng)
    records: dict[str, Record] = {}

    def keep(stage: str, name: str, write: Any, **config: Any) -> None:
        if stage not in plan.stages:
            return
        folder = data / stage / name
        folder.mkdir(parents=True)
        write(folder)
        sources = {key: records[key] for key in config if key in records}
        records[stage] = write_record(folder, stage, name, AnyConfig(**config), sources)

    about = {"architecture": ARCHITECTURE, "images": {"name": "digits", "digest": "0" * 64}, "recipe": plan.recipe}
    layout = make_layout()
    weights = rng.normal(size=(len(table), layout.num_weights)).astype(np.float32)
    plain = table.drop(columns="split")
    keep(
        "zoo",
        "tiny",
        lambda f: write_part(f / "part-00000.parquet", Checkpoints(layout, plain, weights, about)),
        images="digits",
    )
    keep(
        "weights",
        "tiny",
        lambda f: write_part(f / "part-00000.parquet", Checkpoints(layout, table, weights, about)),
        zoo="tiny",
    )
    keep(
        "hyperrep",
        "sane",
        lambda f: make_history(rng).to_parquet(f / "history.parquet"),
        weights="tiny",
        training={"keep_best": "reconstruction"},
    )
    keep("embeddings", "sane", lambda f: write_embeddings(f, table, rng), weights="tiny", hyperrep="sane")
    keep("probes", "main", lambda f: write_probes(f, table, plan, rng), weights="tiny", embeddings="sane")
    keep(
        "samples",
        "main",
        lambda f: write_samples(f, table, plan, rng),
        weights="tiny",
        hyperrep="sane",
        embeddings="sane",
    )
    for images in ("digits", "mnist5k"):
        keep(
            "transfer",
            images,
            lambda f: make_curves(plan, rng).to_parquet(f / "curves.parquet"),
            samples="main",
            images=images,
        )
    return data


def make_layout() -> Layout:
    """Lay out two small layers."""
    return Layout(
        places=(
            Place(name="conv1.weight", kind="conv", layer=0, shape=(2, 3), offset=0, axes=(None, None)),
            Place(name="fc1.weight", kind="linear", layer=1, shape=(2, 2), offset=6, axes=(None, None)),
        )
    )


def make_table(plan: Plan, rng: np.random.Generator) -> pd.DataFrame:
    """Draw members and how they learn; one diverges."""
    n, epochs = plan.num_members, np.arange(plan.num_epochs + 1)
    members = pd.DataFrame({"member": [f"m{i:05d}" for i in range(n)]})
    activation = rng.choice(["tanh", "relu", "sigmoid"], n)
    lr = 10 ** rng.uniform(-4, -1.5, n)
    top = np.clip(
        0.97 - 0.25 * (activation == "sigmoid") - 0.08 * np.abs(np.log10(lr) + 2.7) - rng.exponential(0.03, n), 0.12, 1
    )
    speed = 0.2 + 3 * (lr / lr.max()) ** 0.3
    accuracy = 0.1 + (top[:, None] - 0.1) * (1 - np.exp(-speed[:, None] * epochs / max(4, plan.num_epochs / 5)))
    rows = members.loc[np.repeat(np.arange(n), len(epochs))].reset_index(drop=True)
    rows["epoch"] = np.tile(epochs, n)
    for split, gain in (("train", 0.02), ("val", 0.0), ("test", -0.005)):
        values = np.clip(accuracy + gain * (epochs > 0) + rng.normal(0, 0.005, accuracy.shape), 0, 1)
        rows[f"{split}_accuracy"] = values.reshape(-1).astype(np.float32)
        rows[f"{split}_loss"] = (2.3 * (1 - values)).reshape(-1).astype(np.float32)
    unknown, start = plan.unknown
    rows["test_accuracy"] = rows["test_accuracy"].mask((rows.index < unknown * len(epochs)) & (rows["epoch"] >= start))
    rows["generalization_gap"] = rows["train_accuracy"] - rows["test_accuracy"]
    rows["diverged"] = (rows["member"] == "m00000") & (rows["epoch"] > 1)
    factors = {
        "seed": np.arange(n),
        "activation": activation,
        "init": rng.choice(["kaiming_uniform", "xavier_normal"], n),
        "optimizer": "adam",
        "lr": lr,
        "weight_decay": 10 ** rng.uniform(-5, -2, n),
        "dropout": rng.uniform(0, 0.5, n),
        "batch_size": 32,
        "train_fraction": rng.choice([0.1, 0.5, 1.0], n),
    }
    if plan.recipes:
        factors["schedule"] = np.where(np.arange(n) % 2, "cosine", "constant")
        factors["label_noise"] = np.where(np.arange(n) % 3, 0.0, 0.2)
        factors["augmentation"] = np.where(np.arange(n) % 4 < 2, "none", "flip")
    for name, values in factors.items():
        rows[name] = np.repeat(np.broadcast_to(values, n), len(epochs))
    side = np.where(np.arange(n) % 8 == 6, "val", np.where(np.arange(n) % 4 == 3, "test", "train"))
    rows["split"] = np.repeat(side, len(epochs))
    return rows


def make_history(rng: np.random.Generator) -> pd.DataFrame:
    """Make losses fall."""
    step = np.arange(1, 31) * 20
    fall = 0.3 + np.exp(-step / 150)
    history = pd.DataFrame({"epoch": step / 40, "step": step, "lr": 1e-3})
    for split, extra in (("train", 0.0), ("val", 0.08)):
        for term, scale in (("loss", 1.0), ("reconstruction", 0.9), ("contrast", 3.0)):
            history[f"{split}_{term}"] = scale * (fall + extra + rng.normal(0, 0.01, len(step)))
    return history


def write_embeddings(folder: Path, table: pd.DataFrame, rng: np.random.Generator) -> None:
    """Write summaries that tell accuracy, and reconstruction errors with PCA's beside them."""
    signal = table[["test_accuracy", "epoch"]].to_numpy(np.float64) @ np.array([[3.0, 0, 1], [0, 0.05, 0.02]])
    summary = (signal + rng.normal(0, 0.15, signal.shape)).astype(np.float32)
    list_table = table.assign(summary=list(summary), tokens=list(summary), reconstruction_error=0.4)
    list_table.to_parquet(folder / "embeddings.parquet")
    parts = []
    for method, seen, unseen in (("hyperrep", 0.35, 0.5), ("pca", 0.3, 0.62)):
        for layer, factor in zip((*LAYERS, "all"), (0.6, 1.2, 1.0), strict=True):
            level = np.where(table["split"] == "train", seen, unseen) * factor
            error = level * rng.lognormal(0, 0.15, len(table))
            parts.append(table[["member", "epoch", "split"]].assign(method=method, layer=layer, error=error))
    pd.concat(parts).to_parquet(folder / "reconstruction.parquet")
    figures = {"dimensions": 8.0, "participation": 3.5, "effective_rank": 4.25, "idle": 0.125, "collapse": 0.5}
    pd.DataFrame([{"split": split, **figures} for split in ("train", "val", "test")]).to_parquet(
        folder / "latent.parquet"
    )
    write_kept(folder, table, {"hyperrep": (0.85, 0.6), "untrained": (0.3, 0.3), "pca": (0.7, 0.5)})


def write_kept(folder: Path, table: pd.DataFrame, shares: dict[str, tuple[float, float]]) -> None:
    """Write what reconstructions keep: for each method a share of what is above chance, of seen and unseen members."""
    last = table.loc[(table["epoch"] == table["epoch"].max()) & (table["split"] != "val")]
    parts = []
    for method, (seen, unseen) in shares.items():
        share = np.where(last["split"] == "train", seen, unseen)
        kept = last[["member", "split", "test_accuracy"]].assign(method=method, error=1 - share, agreement=share)
        parts.append(kept.assign(test_accuracy_reconstructed=0.1 + (kept["test_accuracy"] - 0.1) * share))
    pd.concat(parts).to_parquet(folder / "kept.parquet")


def write_probes(folder: Path, table: pd.DataFrame, plan: Plan, rng: np.random.Generator) -> None:
    """Write predictions with errors as planned, and scores that follow from them."""
    scores, predictions = [], []
    error = dict(plan.error)
    for target in ("test_accuracy", "epoch", "lr"):
        truth = np.log10(table[target]) if target == "lr" else table[target].astype(float)
        for features in FEATURES:
            for probe, factor in (("ridge", 1.0), ("boosted", 0.8)):
                size = error.get(features, 0.5) * factor * float(truth.std())
                rows = table[["member", "epoch", "split"]].assign(
                    target=target,
                    features=features,
                    probe=probe,
                    truth=truth,
                    prediction=truth + rng.normal(0, size, len(table)),
                )
                predictions.append(rows)
                scores += score_splits(rows, target, features, probe)
    for features, value in (("embedding", 0.9), ("weights", 0.85), ("majority", 0.4)) if plan.classes else ():
        for split in ("train", "val", "test"):
            scores.append(make_score("activation", features, "logistic", split, "accuracy", value))
    pd.DataFrame(scores).to_parquet(folder / "scores.parquet")
    pd.concat(predictions).to_parquet(folder / "predictions.parquet")


def score_splits(rows: pd.DataFrame, target: str, features: str, probe: str) -> list[dict[str, Any]]:
    """Score predictions on each side of the split."""
    found = []
    for split, part in rows.groupby("split"):
        r2 = 1 - ((part["prediction"] - part["truth"]) ** 2).sum() / ((part["truth"] - part["truth"].mean()) ** 2).sum()
        found.append(make_score(target, features, probe, str(split), "r2", r2))
        found.append(make_score(target, features, probe, str(split), "kendall_tau", 0.9 * r2))
    return found


def make_score(target: str, features: str, probe: str, split: str, measure: str, value: float) -> dict[str, Any]:
    """Make one row of the scores, with an interval."""
    return {
        "target": target,
        "features": features,
        "probe": probe,
        "split": split,
        "measure": measure,
        "value": value,
        "low": value - 0.02,
        "high": value + 0.02,
        "num_members": 4,
        "num_checkpoints": 16,
    }


def write_samples(folder: Path, table: pd.DataFrame, plan: Plan, rng: np.random.Generator) -> None:
    """Write scores of samples."""
    parts = []
    for row, (mean, distance, iou) in SAMPLE_ROWS.items():
        n = plan.num_samples
        accuracy = np.clip(rng.normal(mean, 0.02 + 0.15 * mean * (1 - mean), n), 0, 1)
        parts.append(
            pd.DataFrame(
                {
                    "row": row,
                    "sample": np.arange(n),
                    "seen": "unseen" not in row,
                    "activation": "tanh",
                    "val_accuracy": accuracy,
                    "test_accuracy": accuracy,
                    "test_loss": 1 - accuracy,
                    "nearest_distance": distance * rng.lognormal(0, 0.2, n),
                    "error_iou": np.clip(iou * rng.lognormal(0, 0.1, n), 0, 1),
                }
            )
        )
    pd.concat(parts).to_parquet(folder / "scores.parquet")
    diversity = pd.DataFrame(
        {"row": list(SAMPLE_ROWS), "num_samples": plan.num_samples, "pairwise_distance": 0.8, "pairwise_iou": 0.3}
    )
    diversity.to_parquet(folder / "diversity.parquet")


def make_curves(plan: Plan, rng: np.random.Generator) -> pd.DataFrame:
    """Make accuracies rise from a row's start to its end."""
    parts = []
    epochs = np.arange(plan.num_epochs + 1)
    for row, (start, end) in TRANSFER_ROWS.items():
        for sample in range(plan.num_samples):
            shift = rng.normal(0, 0.02)
            accuracy = np.clip(start + (end + shift - start) * (1 - np.exp(-epochs / 1.5)), 0, 1)
            parts.append(
                pd.DataFrame(
                    {
                        "row": row,
                        "sample": sample,
                        "lr": 1e-3,
                        "epoch": epochs,
                        "test_accuracy": accuracy,
                        "diverged": False,
                    }
                )
            )
    return pd.concat(parts)
