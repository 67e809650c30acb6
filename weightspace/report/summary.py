"""Say in plain words what a study found, lost comparisons included; every sentence follows from the data."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from weightspace.report.blocks import Interval, Paragraph, format_error, format_figure, format_percent, join_words
from weightspace.report.contests import MAIN_TARGET, Contest, hold_contest, hold_contests
from weightspace.report.hyperrep import estimate_errors, estimate_kept
from weightspace.report.labels import CHEAP, RANDOM, TRAINED, is_sampled, name_features, name_row, name_target
from weightspace.report.probes import SCORE
from weightspace.report.read import Entry, Study, numbers, pick, words
from weightspace.report.samples import Start, compare_starts, find_best, list_starts
from weightspace.report.statistics import estimate_difference, estimate_mean, take_quantiles
from weightspace.report.transfer import list_epochs, name_images
from weightspace.report.zoo import count_known, find_factors, list_diverged, share_near_chance, take_last


def summarize(study: Study) -> list[Paragraph]:
    """Write the summary, about the first entry of each stage and about every transfer."""
    sentences: dict[str, list[str]] = {}
    for stage, topic, write in WRITERS:
        entry = study.first(stage)
        if entry is not None:
            sentences.setdefault(topic, []).extend(write(entry))
    for entry in study.of("transfer"):
        sentences.setdefault(f"Fine-tuning on {name_images(entry)}", []).extend(write_transfer(entry))
    return [Paragraph(topic, " ".join(found)) for topic, found in sentences.items() if any(found)]


def write_interval(figure: Interval, write: Callable[[float], str] = format_figure, unit: str = "") -> str:
    """Write a figure with its interval in brackets, where it has one."""
    bounds = f" [{write(figure.low)}, {write(figure.high)}]" if figure.is_bounded else ""
    return f"{write(figure.value)}{unit}{bounds}"


def write_error(figure: Interval) -> str:
    """Write an error with its interval in brackets, small ones by their order of magnitude."""
    return write_interval(figure, partial(format_error, decimals=2))


def write_percent(figure: Interval) -> str:
    """Write a fraction with its interval in brackets, as percentages."""
    return write_interval(figure, format_percent, "%")


def write_standing(lead: Interval) -> str:
    """Say how something stands to another by the interval of its lead; without one they cannot be told apart."""
    if lead.low > 0:
        return "ahead of"
    return "behind" if lead.high < 0 else "level with"


def write_zoo(entry: Entry) -> list[str]:
    """Say what the zoo is and how good its members become."""
    table = entry.table("checkpoints")
    architecture = entry.about.get("architecture", {}).get("name", "architecture not named")
    images = entry.about.get("images", {}).get("name", "images not named")
    factors = join_words([name_target(factor) for factor in find_factors(table)]) or "nothing but their seed"
    lost = share_near_chance(entry)
    sentences = [
        f"{table['member'].nunique():,} networks ({architecture}) were trained on {images} for {table['epoch'].max()} "
        f"epochs; they differ in {factors}.",
        f"{write_ends(table)}; {len(list_diverged(table)) or 'none'} diverged.",
    ]
    if lost:
        sentences.append(f"{format_percent(lost, 0)}% of members end below twice the accuracy of guessing.")
    return sentences


def write_ends(table: pd.DataFrame) -> str:
    """Say how good members are at the end, as far as that is known."""
    low, median, high = take_quantiles(take_last(table)["test_accuracy"], (0.05, 0.5, 0.95))
    if np.isnan(median):
        return "How good they are at the end is not known"
    return (
        f"At the end the median member is right on {format_percent(median)}% of the test images, and 90% of members "
        f"lie between {format_percent(low)} and {format_percent(high)}%{count_known(table)}"
    )


def write_reconstruction(entry: Entry) -> list[str]:
    """Say how much of the weights comes back, next to PCA of the same size."""
    errors = estimate_errors(entry.table("reconstruction"))
    seen, unseen = (errors["hyperrep", side, "all"] for side in ("train", "test"))
    sentences = [
        "Weights of unseen members come back from the hyper-representation with an error of "
        f"{write_error(unseen)}, those of seen members with {write_error(seen)} (0 is exact, 1 as bad as "
        "the mean weight)."
    ]
    pca = errors.get(("pca", "test", "all"))
    if pca is not None:
        verdict = "does about as well"
        if pca.high < unseen.low or pca.low > unseen.high:
            verdict = "does better" if pca.value < unseen.value else "does worse"
        sentences.append(f"PCA with as many numbers {verdict} on unseen members: {write_error(pca)}.")
    return sentences


def write_kept(entry: Entry) -> list[str]:
    """Say what accuracy is left after encoder and decoder, seen and unseen members apart."""
    figures = estimate_kept(entry)
    if not figures:
        return []
    sides = [
        f"{side} members from {format_percent(figures[f'accuracy_{side}'].value)} to "
        f"{write_percent(figures[f'accuracy_kept_{side}'])}"
        for side in ("unseen", "seen")
    ]
    return [f"Reconstruction takes the test accuracy of {join_words(sides)}."]


def write_probes(entry: Entry) -> list[str]:
    """Say what the embedding tells of unseen members, and where a baseline tells more."""
    sentences = []
    contest = hold_contest(entry, MAIN_TARGET)
    if contest is not None:
        sentences += [
            f"Test accuracy of unseen members is predicted from their embeddings with {SCORE['r2']} "
            f"{write_interval(contest.learned.figure)} ({contest.learned.words}).",
            write_verdict(contest),
            *write_linear(entry, contest),
        ]
    contests = hold_contests(entry)
    return [*sentences, write_tally(contests)] if contests else sentences


def write_verdict(contest: Contest) -> str:
    """Say who predicts a target better, the best embedding or the best baseline."""
    baseline = f"{write_interval(contest.baseline.figure)} ({contest.baseline.words})"
    if contest.verdict == "embedding":
        return f"That beats the best baseline, {baseline}, by {write_interval(contest.lead)}."
    behind = Interval(-contest.lead.value, -contest.lead.high, -contest.lead.low)
    if contest.verdict == "baseline":
        return f"A baseline does better, {baseline}: the embedding is behind by {write_interval(behind)}."
    side, lead = ("ahead of", contest.lead) if contest.lead.value > 0 else ("behind", behind)
    reason = "too little" if lead.is_bounded else "too few members"
    return f"That is {side} the best baseline, {baseline}, by {write_interval(lead)}: {reason} to tell from chance."


def write_linear(entry: Entry, overall: Contest) -> list[str]:
    """Say how sides compare with the linear probe alone, where that is not the comparison already made."""
    linear = hold_contest(entry, MAIN_TARGET, "ridge")
    if linear is None or overall.learned.probe == overall.baseline.probe == "ridge":
        return []
    return [
        f"With the linear probe on both sides it is {format_figure(linear.learned.figure.value)} against "
        f"{format_figure(linear.baseline.figure.value)} ({name_features(linear.baseline.features)}): the embedding is "
        f"{write_standing(linear.lead)} the best baseline."
    ]


def write_tally(contests: list[Contest]) -> str:
    """Say on which targets which side wins."""
    clauses = []
    for verdict, opening in (
        ("embedding", "the embedding is ahead on"),
        ("baseline", "a baseline is ahead on"),
        ("open", "too close to call:"),
        ("neither", "nothing beats the mean on"),
    ):
        targets = [name_target(contest.target) for contest in contests if contest.verdict == verdict]
        if targets:
            clauses.append(f"{opening} {len(targets)} ({join_words(targets)})")
    return f"Of {len(contests)} targets, {'; '.join(clauses)}."


def write_samples(entry: Entry) -> list[str]:
    """Say whether samples start above random networks, and whether cheap baselines do better."""
    starts = list_starts(entry)
    best = find_best(starts)
    if best is None:
        return []
    sentences = [
        f"Before any training, networks sampled from the hyper-representation are right on "
        f"{write_percent(best.accuracy)} of the test images (best sampler: {name_row(best.row)})."
    ]
    random = find_best(starts, lambda row: row in RANDOM)
    if random is not None:
        standing = write_standing(compare_starts(best, random))
        verdict = {"ahead of": "clearly above", "level with": "not clearly above", "behind": "below"}[standing]
        sentences.append(f"That is {verdict} random initial weights, {write_percent(random.accuracy)}.")
    rivals = (find_best(starts, lambda row: row in CHEAP), find_best(starts, lambda row: row == "anchors"))
    return [*sentences, *(write_rival(best, rival) for rival in rivals if rival is not None)]


def write_rival(best: Start, rival: Start) -> str:
    """Say whether weights that need no model start better than the best sampler."""
    standing = write_standing(compare_starts(rival, best))
    verdict = {"ahead of": "do better", "behind": "do worse", "level with": "do as well, as far as can be told"}[
        standing
    ]
    what = f"Weights of the cheap baseline {name_row(rival.row)}, which needs no model,"
    if rival.row in TRAINED:
        what = "The anchors themselves, as trained,"
    return f"{what} {verdict}: {write_percent(rival.accuracy)}."


def write_transfer(entry: Entry) -> list[str]:
    """Say how the best sampled start compares with others after the first epoch and after the last."""
    curves = entry.table("curves")
    epochs = list_epochs(curves)
    shown = sorted({epochs[min(1, len(epochs) - 1)], epochs[-1]})
    return [write_epoch(curves, epoch) for epoch in shown]


def write_epoch(curves: pd.DataFrame, epoch: int) -> str:
    """Say how the best sampled start compares with the best of each other kind at one epoch; empty without one."""
    accuracy = {row: numbers(pick(curves, row=row, epoch=epoch), "test_accuracy") for row in words(curves, "row")}
    best = find_highest(accuracy, [row for row in accuracy if is_sampled(row)])
    if best is None:
        return ""
    rivals = [find_highest(accuracy, kind) for kind in (RANDOM, TRAINED, CHEAP)]
    clauses = [
        f"{write_standing(estimate_difference(accuracy[best], accuracy[rival]))} {name_row(rival)} "
        f"({format_percent(float(np.nanmean(accuracy[rival])))}%)"
        for rival in rivals
        if rival is not None
    ]
    return (
        f"After {epoch} {'epoch' if epoch == 1 else 'epochs'} the best sampler ({name_row(best)}) reaches "
        f"{write_percent(estimate_mean(accuracy[best]))}: {join_words(clauses)}."
    )


def find_highest(accuracy: dict[str, np.ndarray], rows: list[str] | tuple[str, ...]) -> str | None:
    """Return which of some rows has the highest mean, None where none was measured."""
    measured = [row for row in rows if row in accuracy and np.isfinite(accuracy[row]).any()]
    return max(measured, key=lambda row: np.nanmean(accuracy[row]), default=None)


WRITERS: tuple[tuple[str, str, Callable[[Entry], list[str]]], ...] = (
    ("zoo", "Zoo", write_zoo),
    ("embeddings", "Reconstruction", write_reconstruction),
    ("embeddings", "Reconstruction", write_kept),
    ("probes", "Prediction", write_probes),
    ("samples", "Samples", write_samples),
)
"""What is said about the first entry of each stage, by topic."""
