"""Gather every science figure under a key that stays."""

import math
from typing import Any

from weightspace.report.blocks import Interval
from weightspace.report.config import CurveSweep, Sweep
from weightspace.report.contests import find_figure, find_measure, hold_contests, list_targets
from weightspace.report.hyperrep import (
    HEALTH,
    SIDES,
    estimate_errors,
    estimate_kept,
    estimate_zoo_errors,
    list_health,
)
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.samples import list_starts
from weightspace.report.statistics import estimate_mean, take_quantiles
from weightspace.report.sweeps import FIGURES, MODEL, Runs, gather_changes, gather_curve
from weightspace.report.transfer import choose_epochs, estimate_accuracy, name_images
from weightspace.report.zoo import list_diverged, take_last

DIGITS = 6
"""Significant ones that are kept."""
Tree = dict[str, Any]


def gather_metrics(study: Study) -> Tree:
    """Gather the figures of a study as a tree whose dotted keys are the names of figures.

    Bounds of an interval stand beside their figure as `_low` and `_high`. A figure that is no number is left out.
    """
    metrics: Tree = {}
    for stage, gather in GATHERERS.items():
        for number, entry in enumerate(study.of(stage)):
            gather(metrics if number == 0 else find_folder(metrics, ("more", stage, entry.name)), entry)
    known: set[str] = set()
    for entry in study.of("transfer"):
        images = name_images(entry)
        gather_transfer(find_folder(metrics, ("more", "transfer", entry.name)) if images in known else metrics, entry)
        known.add(images)
    for name, sweep in study.sweeps.items():
        gather_sweep(find_folder(metrics, ("sweeps", name)), study, sweep)
    return metrics


def find_folder(tree: Tree, keys: tuple[str, ...]) -> Tree:
    """Go down a tree along keys, making what is not there."""
    for key in keys:
        tree = tree.setdefault(key, {})
    return tree


def put(tree: Tree, keys: tuple[str, ...], figure: Interval | float) -> None:
    """Put a figure, with its bounds if it has any, at a path of keys."""
    *folders, name = keys
    if not isinstance(figure, Interval):
        figure = Interval(figure, math.nan, math.nan)
    for ending, number in (("", figure.value), ("_low", figure.low), ("_high", figure.high)):
        if math.isfinite(number):
            find_folder(tree, tuple(folders))[name + ending] = round_figure(number)


def round_figure(number: float) -> float:
    """Keep the leading digits; a count stays whole."""
    return number if isinstance(number, int) else float(f"{number:.{DIGITS}g}")


def gather_zoo(tree: Tree, entry: Entry) -> None:
    """Gather `zoo.<figure>`; accuracy is that on test images at the last epoch."""
    table = entry.table("checkpoints")
    last = take_last(table)["test_accuracy"]
    put(tree, ("zoo", "num_members"), len(words(table, "member")))
    put(tree, ("zoo", "num_checkpoints"), len(table))
    put(tree, ("zoo", "num_diverged"), len(list_diverged(table)))
    put(tree, ("zoo", "num_epochs"), int(numbers(table, "epoch").max()))
    put(tree, ("zoo", "accuracy_mean"), estimate_mean(last))
    for name, figure in zip(("p05", "median", "p95"), take_quantiles(last, (0.05, 0.5, 0.95)), strict=True):
        put(tree, ("zoo", f"accuracy_{name}"), float(figure))


def gather_reconstruction(tree: Tree, entry: Entry) -> None:
    """Gather `reconstruction.<seen|unseen>` over all layers, `.pca_<seen|unseen>`, and both in `.layers.<layer>`.

    Where networks were run, also `.<accuracy|accuracy_kept|agreement>_<seen|unseen>`; those of baselines begin with
    their name.
    """
    for (method, split, layer), figure in estimate_errors(entry.table("reconstruction")).items():
        if split in SIDES:
            name = SIDES[split] if method == "hyperrep" else f"{method}_{SIDES[split]}"
            folders = ("reconstruction",) if layer == "all" else ("reconstruction", "layers", layer)
            put(tree, (*folders, name), figure)
    for method in words(entry.tables["kept"], "method") if "kept" in entry.tables else ():
        for name, figure in estimate_kept(entry, method).items():
            put(tree, ("reconstruction", name if method == MODEL else f"{method}_{name}"), figure)
    for (zoo, split), figure in estimate_zoo_errors(entry).items():
        if split in SIDES:
            put(tree, ("reconstruction", "zoos", zoo, SIDES[split]), figure)
    gather_latent(tree, entry)


def gather_latent(tree: Tree, entry: Entry) -> None:
    """Gather `latent.<figure>_<seen|unseen>`, of several layouts below `latent.layouts.<layout>`."""
    for row in list_health(entry):
        folders = ("latent", "layouts", row["layout"]) if "layout" in row else ("latent",)
        for figure in HEALTH:
            put(tree, (*folders, f"{figure}_{SIDES[row['split']]}"), float(row[figure]))


def gather_probes(tree: Tree, entry: Entry) -> None:
    """Gather `probes.<target>.<features>.<measure>` on unseen members, and `comparison.<target>.lead`.

    Measures of boosted trees begin with `boosted_`, those of the linear probe do not.
    """
    scores = entry.table("scores")
    for target in list_targets(scores):
        rows = pick(scores, target=target)
        measures = ("r2", "kendall_tau") if find_measure(scores, target) == "r2" else ("accuracy",)
        for features in sorted(words(rows, "features")):
            for probe in words(rows, "probe"):
                for measure in measures:
                    name = f"boosted_{measure}" if probe == "boosted" else measure
                    put(tree, ("probes", target, features, name), find_figure(rows, features, measure, probe, "test"))
    for contest in hold_contests(entry):
        put(tree, ("comparison", contest.target, "lead"), contest.lead)


def gather_samples(tree: Tree, entry: Entry) -> None:
    """Gather `samples.<row>.<figure>`."""
    for row, start in list_starts(entry).items():
        put(tree, ("samples", row, "accuracy_mean"), start.accuracy)
        put(tree, ("samples", row, "accuracy_max"), start.top)
        for name, figure in start.novelty.items():
            put(tree, ("samples", row, name), figure)


def gather_transfer(tree: Tree, entry: Entry) -> None:
    """Gather `transfer.<image set>.<row>.accuracy_at.<epoch>`, on test images."""
    curves = entry.table("curves")
    for row in sorted(words(curves, "row")):
        for epoch in choose_epochs(curves):
            keys = ("transfer", name_images(entry), row, "accuracy_at", str(epoch))
            put(tree, keys, estimate_accuracy(curves, row, epoch))


def gather_sweep(tree: Tree, study: Study, sweep: Sweep) -> None:
    """Gather `sweeps.<name>.<arm>.<value>.<figure>_<seen|unseen>`, or of one factor at a time `.<cell>.<figure>_...`.

    Figures are `error`, `kept_share` and `agreement`; those of baselines begin with their name, and those of a cell
    less the base's, on unseen members, with `difference_`.
    """
    if isinstance(sweep, CurveSweep):
        for arm, runs in gather_curve(study, sweep).items():
            for value, run in zip(sweep.values, runs, strict=True):
                put_runs(tree, (arm, str(value)), run)
        return
    base, changes = gather_changes(study, sweep)
    put_runs(tree, ("base",), base)
    for name, runs in changes.items():
        put_runs(tree, (name,), runs)
        for figure in FIGURES:
            put(tree, (name, f"difference_{figure}"), runs.compare(base, figure))


def put_runs(tree: Tree, keys: tuple[str, ...], runs: Runs) -> None:
    """Put all figures of some runs."""
    for method, split, figure in runs.figures:
        name = figure if method == MODEL else f"{method}_{figure}"
        put(tree, (*keys, f"{name}_{SIDES[split]}"), runs.estimate(figure, split, method))


GATHERERS = {
    "zoo": gather_zoo,
    "embeddings": gather_reconstruction,
    "probes": gather_probes,
    "samples": gather_samples,
}
