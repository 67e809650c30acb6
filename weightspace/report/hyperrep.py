"""Show a hyper-representation: how it learned, what it keeps of a network, and how networks lie in it."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from weightspace.report.blocks import (
    UNKNOWN,
    Cell,
    Interval,
    Part,
    Plot,
    Section,
    Table,
    format_error,
    format_percent,
    make_error_cell,
    make_percent_cell,
)
from weightspace.report.plot import BLUE, GREY, INK, ORANGE, SMALL, add_legend, draw_plot, label_ends
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.statistics import estimate_mean, name_intervals

METHODS = {"hyperrep": ("hyper-representation", BLUE), "pca": ("PCA of the same size", ORANGE)}
HEADINGS = {"hyperrep": "model", "untrained": "model before training", "pca": "PCA"}
SIDES = {"train": "seen", "test": "unseen"}
MARKERS = {"train": "o", "test": "D"}
KEPT = {
    "accuracy": "test_accuracy",
    "accuracy_kept": "test_accuracy_reconstructed",
    "agreement": "agreement",
}
"""Figures about reconstructed networks, and the columns that they are means of."""
BEST = {
    "loss": "whose loss on validation members is lowest",
    "reconstruction": "which reconstructs validation members best",
    "behaviour": "whose reconstructions of validation members do what the originals do most nearly",
    "contrast": "whose contrast of validation members is lowest",
}
"""What the page says of the model that was kept, by the term that it was kept by."""
HEALTH = {
    "participation": "participation ratio",
    "effective_rank": "effective rank",
    "idle": "idle dimensions, %",
    "collapse": "likeness of networks",
}
"""Figures about latents, and what the page calls them."""
Errors = dict[tuple[str, str, str], Interval]
"""By method, split and layer."""


def show_hyperreps(study: Study) -> Section:
    """Show every hyper-representation of a study with its embeddings."""
    entries = study.of("hyperrep")
    parts = [part for entry in entries for part in show_hyperrep(study, entry, len(entries) > 1)]
    return Section("hyperrep", "The hyper-representation" if len(entries) == 1 else "The hyper-representations", parts)


def show_hyperrep(study: Study, entry: Entry, named: bool) -> list[Part]:
    """Show one hyper-representation."""
    history = entry.table("history")
    plots = [draw_term(entry, history, term) for term in find_terms(history)]
    parts = [Part(entry.name if named else "", [describe_training(entry)], plots, small=True)]
    for embeddings in study.using("embeddings", "hyperrep", entry.name):
        parts += [show_reconstruction(embeddings), *show_health(embeddings), show_map(embeddings)]
        if "kept" in embeddings.tables:
            parts.append(show_kept(embeddings))
    return parts


def find_terms(history: pd.DataFrame) -> list[str]:
    """List the loss terms that were measured on both training and validation members."""
    names = [name.removeprefix("train_") for name in history.columns if name.startswith("train_")]
    return [name for name in names if f"val_{name}" in history]


def describe_training(entry: Entry) -> str:
    """Say how long it learned and which moment was kept."""
    history = entry.table("history")
    text = f"{int(numbers(history, 'step').max()):,} optimizer steps."
    term = entry.record.config["training"]["keep_best"]
    best = numbers(history, "step")[np.nanargmin(numbers(history, f"val_{term}"))]
    return f"{text} Kept: the model at step {int(best):,}, {BEST[term]}."


def draw_term(entry: Entry, history: pd.DataFrame, term: str) -> Plot:
    """Draw one loss term over the training, training against validation members."""
    name = term.replace("_", " ")
    sides = (("train", "training", BLUE), ("val", "validation", ORANGE))

    def paint(figure: Figure, axes: Axes) -> None:
        for side, _, color in sides:
            axes.plot(numbers(history, "step"), numbers(history, f"{side}_{term}"), color=color)
        axes.set(xlabel="optimizer step", ylabel=name)
        label_ends(figure, axes, [(find_last(history, f"{side}_{term}"), label, color) for side, label, color in sides])

    ends = ", ".join(f"{find_last(history, f'{side}_{term}'):.3g} on {label} members" for side, label, _ in sides)
    alt = f"{name.capitalize()} over the training; at the end {ends}."
    return draw_plot(f"hyperrep_{entry.name}_{term}", paint, f"Training history: {name}.", alt, SMALL)


def find_last(history: pd.DataFrame, column: str) -> float:
    """Return the last measured value of a column."""
    return float(history[column].dropna().iloc[-1])


def estimate_errors(reconstruction: pd.DataFrame) -> Errors:
    """Return the mean error over checkpoints, drawn by member."""
    keys = [
        (method, split, layer)
        for method in words(reconstruction, "method")
        for split in words(reconstruction, "split")
        for layer in words(reconstruction, "layer")
    ]
    errors = {}
    for method, split, layer in keys:
        rows = pick(reconstruction, method=method, split=split, layer=layer)
        if len(rows):
            errors[method, split, layer] = estimate_mean(rows["error"], rows["member"])
    return errors


def show_reconstruction(embeddings: Entry) -> Part:
    """Show how well weights come back, layer by layer, seen and unseen, next to PCA."""
    errors = estimate_errors(embeddings.table("reconstruction"))
    layers = words(embeddings.table("reconstruction"), "layer")
    members = embeddings.table("embeddings").drop_duplicates("member")["split"].value_counts()
    text = (
        "Squared error of a network's weights over its squared distance from the mean of seen members: 0 is exact, 1 "
        f"is as bad as putting the mean weight everywhere. It learned from {members.get('train', 0)} members (seen), "
        f"{members.get('val', 0)} chose its best moment, {members.get('test', 0)} had no part in it (unseen)."
    )
    plot = draw_reconstruction(embeddings, errors, layers)
    tables = [tabulate_reconstruction(errors, layers), *tabulate_zoos(embeddings)]
    return Part("Reconstruction", [text], [plot], tables=tables)


def estimate_zoo_errors(embeddings: Entry) -> dict[tuple[str, str], Interval]:
    """Return the mean error of whole networks by zoo and split, drawn by member; nothing where there is one zoo."""
    reconstruction = embeddings.table("reconstruction")
    if "zoo" not in reconstruction or len(words(reconstruction, "zoo")) < 2:
        return {}
    whole = pick(reconstruction, method="hyperrep", layer="all")
    found = {
        (zoo, split): pick(whole, zoo=zoo, split=split)
        for zoo in words(whole, "zoo")
        for split in words(whole, "split")
    }
    return {key: estimate_mean(rows["error"], rows["member"]) for key, rows in found.items() if len(rows)}


def tabulate_zoos(embeddings: Entry) -> list[Table]:
    """Tabulate the reconstruction error by zoo, where there are several."""
    errors = estimate_zoo_errors(embeddings)
    if not errors:
        return []
    zoos = list(dict.fromkeys(zoo for zoo, _ in errors))
    rows = [
        [Cell(zoo), *(make_error_cell(errors.get((zoo, split), UNKNOWN), False) for split in SIDES)] for zoo in zoos
    ]
    note = f"Whole networks: means over checkpoints with {name_intervals('members')}."
    return [Table("Reconstruction error by zoo.", ["zoo", *SIDES.values()], rows, note)]


def list_health(embeddings: Entry) -> list[dict[str, Any]]:
    """List what was measured of latents, of seen and of unseen members; nothing where it was not."""
    if "latent" not in embeddings.tables:
        return []
    rows = embeddings.table("latent").to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows if row["split"] in SIDES]


def show_health(embeddings: Entry) -> list[Part]:
    """Show how much of the latent space is used, where it was measured."""
    health = list_health(embeddings)
    if not health:
        return []
    rows = [
        [
            Cell(", ".join([*filter(None, [row.get("layout")]), SIDES[row["split"]]])),
            Cell(f"{row['dimensions']:.0f}"),
            *(Cell(f"{100 * row[name] if name == 'idle' else row[name]:.3g}") for name in HEALTH),
        ]
        for row in health
    ]
    note = (
        "Dimensions: numbers of a latent. Participation ratio and effective rank count how many of their principal "
        "directions tell networks apart; a dimension is idle if its variance between networks is less than a hundredth "
        "of the median one. Likeness: mean cosine between the latents of networks of different members; at 1 all "
        "networks are represented alike, and the space has collapsed."
    )
    table = Table("Use of the latent space.", ["members", "dimensions", *HEALTH.values()], rows, note)
    return [Part("Latent space", tables=[table])]


def draw_reconstruction(embeddings: Entry, errors: Errors, layers: list[str]) -> Plot:
    """Draw the reconstruction error of each layer as points with intervals."""

    def paint(figure: Figure, axes: Axes) -> None:
        for method, shift in (("hyperrep", -0.15), ("pca", 0.15)):
            for side in SIDES:
                found = {
                    n: errors[method, side, layer] for n, layer in enumerate(layers) if (method, side, layer) in errors
                }
                if found:
                    draw_errors(axes, method, side, np.array([*found]) + shift, [*found.values()])
        if axes.get_xlim()[1] > 0.5:
            axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axes.set(xlabel="reconstruction error (1 = the mean weight)", ylim=(len(layers) - 0.5, -0.5))
        axes.set_xlim(left=0)
        axes.set_yticks(range(len(layers)), layers)
        add_legend(figure)

    seen, unseen = (errors["hyperrep", side, "all"].value for side in SIDES)
    caption = "Reconstruction error by layer, with 95% intervals over members."
    alt = (
        f"Reconstruction error by layer; over all layers {format_error(seen)} for seen and {format_error(unseen)} for "
        "unseen members."
    )
    return draw_plot(f"embeddings_{embeddings.name}_reconstruction", paint, caption, alt, (4.6, 3.8))


def draw_errors(axes: Axes, method: str, side: str, heights: np.ndarray, errors: list[Interval]) -> None:
    """Draw the errors of one method on one side of the split."""
    label, color = METHODS[method]
    axes.hlines(heights, [e.low for e in errors], [e.high for e in errors], color=color, linewidth=1)
    axes.plot(
        [e.value for e in errors],
        heights,
        MARKERS[side],
        color=color,
        markerfacecolor="white" if side == "train" else color,
        markersize=5,
        label=f"{label}, {SIDES[side]}",
    )


def tabulate_reconstruction(errors: Errors, layers: list[str]) -> Table:
    """Tabulate the reconstruction error by layer, method and side."""
    methods = [method for method in METHODS if any(key[0] == method for key in errors)]
    keys = [(method, side) for method in methods for side in SIDES]
    rows = []
    for layer in layers:
        figures = {key: errors.get((*key, layer), UNKNOWN) for key in keys}
        best = min(figures[method, "test"].value for method in methods)
        cells = [make_error_cell(figures[key], key[1] == "test" and figures[key].value == best) for key in keys]
        rows.append([Cell("all layers" if layer == "all" else layer), *cells])
    columns = ["layer", *(f"{HEADINGS[method]}, {SIDES[side]}" for method, side in keys)]
    note = (
        f"Means over checkpoints with {name_intervals('members')}. Bold: the lowest error on unseen members. "
        "Model: the hyper-representation. PCA: principal components of seen members, as many numbers a network."
    )
    return Table("Reconstruction error by layer.", columns, rows, note)


def estimate_kept(embeddings: Entry, method: str = "hyperrep") -> dict[str, Interval]:
    """Return what networks are worth before and after reconstruction, as `<figure>_<seen|unseen>`, drawn by member."""
    figures = {}
    for split, side in SIDES.items() if "kept" in embeddings.tables else ():
        rows = pick(embeddings.tables["kept"], split=split, method=method)
        for name, column in KEPT.items():
            figures[f"{name}_{side}"] = estimate_mean(rows[column], rows["member"])
    return figures


def show_kept(embeddings: Entry) -> Part:
    """Show how much accuracy networks keep when they go through encoder and decoder, and through baselines."""
    rows = []
    for method in words(embeddings.table("kept"), "method"):
        figures = estimate_kept(embeddings, method)
        for side in SIDES.values():
            cells = [make_percent_cell(figures[f"{name}_{side}"]) for name in KEPT]
            rows.append([Cell(f"{side} members, {HEADINGS[method]}"), *cells])
    columns = ["networks", "as trained", "reconstructed", "same answers"]
    caption = "Test accuracy of networks as trained, and after encoder and decoder, %."
    note = (
        f"Members at the last epoch. Means with {name_intervals('members')}. Same answers: the share of test images to "
        "which a network and its reconstruction give the same class. PCA: principal components of seen members, as "
        "many numbers a network."
    )
    table = Table(caption, columns, rows, note)
    return Part("Accuracy that survives reconstruction", plots=[draw_kept(embeddings)], tables=[table])


def draw_kept(embeddings: Entry) -> Plot:
    """Draw each network's accuracy before and after encoder and decoder."""
    kept = pick(embeddings.table("kept"), method="hyperrep")

    def paint(figure: Figure, axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8)
        for (split, side), color in zip(SIDES.items(), (BLUE, ORANGE), strict=True):
            rows = pick(kept, split=split)
            before, after = (100 * numbers(rows, name) for name in ("test_accuracy", "test_accuracy_reconstructed"))
            axes.scatter(before, after, s=10, color=color, marker=MARKERS[split], alpha=0.6, linewidths=0, label=side)
        axes.set(xlabel="test accuracy as trained, %", ylabel="reconstructed, %", xlim=(0, 102), ylim=(0, 102))
        add_legend(figure)

    figures = {key: format_percent(figure.value) for key, figure in estimate_kept(embeddings).items()}
    ends = (
        f"{side} {figures[f'accuracy_{side}']}%, then {figures[f'accuracy_kept_{side}']}%" for side in SIDES.values()
    )
    caption = "Test accuracy before and after encoder and decoder; on the line nothing is lost."
    return draw_plot(f"embeddings_{embeddings.name}_kept", paint, caption, f"Mean test accuracy: {'; '.join(ends)}.")


def score_normally(summaries: Float[np.ndarray, "checkpoints d_summary"]) -> Float[np.ndarray, "checkpoints d_summary"]:
    """Replace each number by where its rank among all checkpoints stands on a normal distribution."""
    return ndtri((pd.DataFrame(summaries).rank().to_numpy() - 0.5) / len(summaries))


def project(
    summaries: Float[np.ndarray, "checkpoints d_summary"], fit: Bool[np.ndarray, " checkpoints"]
) -> tuple[Float[np.ndarray, "checkpoints 2"], Float[np.ndarray, " 2"]]:
    """Project onto the two directions of largest variance among some rows.

    Returns:
        coordinates, and the share of the variance that each direction has.
    """
    centered = summaries - summaries[fit].mean(0)
    variances, vectors = np.linalg.eigh(centered[fit].T @ centered[fit])
    directions = vectors.T[:-3:-1]
    # A direction has no sign of its own: its largest number is made positive, so that maps can be compared.
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    return centered @ directions.T, variances[:-3:-1] / variances.sum()


def show_map(embeddings: Entry) -> Part:
    """Show where checkpoints lie in the embedding, coloured by accuracy and by epoch."""
    table = embeddings.table("embeddings")
    summaries = np.stack(table["summary"].tolist()).astype(np.float64)
    places, shares = project(score_normally(summaries), (table["split"] == "train").to_numpy())
    text = (
        "Each point is a checkpoint: its summary on the two directions of largest variance among seen members. Ringed "
        "points are unseen members at the last epoch. Each number of the summary was first replaced by its rank, as it "
        "would stand on a normal distribution, so that networks with huge weights do not squeeze the others together."
    )
    accuracy, epoch = 100 * numbers(table, "test_accuracy"), numbers(table, "epoch")
    plots = [draw_map(embeddings, places, shares, accuracy, "test accuracy, %")]
    if len(np.unique(epoch)) > 1:
        plots.append(draw_map(embeddings, places, shares, epoch, "epoch"))
    return Part("Map of the embedding", [text], plots)


def draw_map(
    embeddings: Entry,
    places: Float[np.ndarray, "checkpoints 2"],
    shares: Float[np.ndarray, " 2"],
    values: Float[np.ndarray, " checkpoints"],
    label: str,
) -> Plot:
    """Draw the map in one colouring; points become an image, so that thousands stay light."""
    table = embeddings.table("embeddings")
    ringed = ((table["split"] == "test") & (table["epoch"] == table["epoch"].max())).to_numpy()

    def paint(figure: Figure, axes: Axes) -> None:
        points = axes.scatter(*places.T, c=values, s=4, cmap="viridis", linewidths=0, rasterized=True)
        axes.scatter(*places[ringed].T, s=22, facecolors="none", edgecolors=INK, linewidths=0.7, rasterized=True)
        axes.set_xlabel(f"direction 1 ({100 * shares[0]:.0f}% of variance)")
        axes.set_ylabel(f"direction 2 ({100 * shares[1]:.0f}%)")
        figure.colorbar(points, ax=axes, label=label)

    alt = f"Map of {len(table):,} checkpoints coloured by {label}; {ringed.sum()} unseen members are ringed."
    name = f"embeddings_{embeddings.name}_map_{label.split(',')[0].replace(' ', '_')}"
    return draw_plot(name, paint, f"The embedding, coloured by {label}.", alt)
