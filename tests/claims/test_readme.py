"""Every figure on the README's first screen is one that a report in benchmarks/reports holds."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = ROOT / "benchmarks" / "reports" / re.search(r"benchmarks/reports/([\w-]+\.json)", README).group(1)
FIGURES = json.loads(REPORT.read_text(encoding="utf-8"))


def format_row(template):
    """Fill a row of the README's table with the report's figures."""
    return re.sub(r"\{([\w.]+?)(?:/(\w+))?\}", lambda m: f"{FIGURES['figures'][m[1]]:{'.' + (m[2] or '2f')}}", template)


@pytest.mark.parametrize("row", FIGURES["readme"])
def test_row_of_the_table_holds_the_reports_figures(row):
    assert f"| {row} | {format_row(FIGURES['readme'][row])} |" in README


def test_every_row_of_the_table_is_backed_by_the_report():
    table = README.split("<!-- figures -->")[1].split("<!-- end -->")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert rows
    assert set(rows) == set(FIGURES["readme"])


def test_science_figures_are_those_of_the_committed_metrics():
    metrics = json.loads((ROOT / "data/report/quickstart/metrics.json").read_text(encoding="utf-8"))
    science = {name: value for name, value in FIGURES["figures"].items() if name.split(".")[0] in metrics}
    assert science
    for name, value in science.items():
        found = metrics
        for key in name.split("."):
            found = found[key]
        assert found == value, name


ARMS = {
    "aligned": "aligned",
    "not aligned": "as_trained",
    "aligned, one view permuted": "permuted",
    "aligned, loss on behaviour": "behaviour",
}
BASELINES = {"baseline: before training": "untrained_", "baseline: PCA of the same size": "pca_"}


CHANGES = {
    "no alignment": "no_alignment",
    "no view permuted": "permute_none",
    "both views permuted": "permute_both",
    "loss normalised by batch": "loss_batch",
    "loss normalised by layer": "loss_layer",
    "contrast weight 0": "contrast_0",
    "contrast weight 0.5": "contrast_50",
    "windows of 16 tokens": "window_16",
    "windows of 32 tokens": "window_32",
    "noise of 0.1 on inputs": "noise_10",
    "loss on behaviour, weight 0.5": "behaviour",
}


def read_metrics(study):
    """Read a study's committed figures."""
    path = ROOT / f"studies/{study}/data/report/{study.replace('-', '_')}/metrics.json"
    return json.loads(path.read_text(encoding="utf-8"))


def read_report(name):
    return json.loads((ROOT / f"benchmarks/reports/{name}.json").read_text(encoding="utf-8"))


def tell_paragraph(after, number=0):
    """Give a paragraph of the README, lines joined."""
    return README.split(after)[1].split("\n\n")[number].replace("\n", " ")


def read_study(name):
    """Read a study's committed figures and the rows of its table in the README."""
    metrics = read_metrics(name)
    table = README.split(f"<!-- {name} -->")[1].split(f"<!-- end {name} -->")[0].strip().splitlines()
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:])
    return metrics["sweeps"], {first: others for first, *others in cells}


def show(figures, name, scale, digits):
    """Write a figure with its interval."""
    value, low, high = (f"{scale * figures[f'{name}{end}']:.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def show_kept(figures, prefix=""):
    """Write the accuracy that reconstructions of unseen members keep, in %."""
    return show(figures, f"{prefix}accuracy_kept_unseen", 100, 1).replace(" [", " % [")


def test_table_of_changes_is_the_studys():
    sweeps, rows = read_study("ablation")
    cells = sweeps["factors"]
    assert set(cells) == {"base", *CHANGES.values()}
    wanted = {
        row: [*show_errors(cells[cell]), show(cells[cell], "difference_kept_share", 100, 1)]
        for row, cell in CHANGES.items()
    }
    wanted |= {row: [*show_errors(cells["base"], prefix), ""] for row, prefix in {"base": "", **BASELINES}.items()}
    assert rows == wanted


def show_errors(figures, prefix=""):
    return show(figures, f"{prefix}error_unseen", 1, 3), show(figures, f"{prefix}kept_share_unseen", 100, 0)


def test_curve_over_training_members_is_the_studys():
    sweeps, rows = read_study("scaling")
    arms = sweeps["members"]
    assert set(rows) == set(ARMS) | set(BASELINES)
    for row, arm in ARMS.items():
        assert rows[row] == [show(figures, "kept_share_unseen", 100, 0) for figures in arms[arm].values()]
    for row, prefix in BASELINES.items():
        shown = [f"{100 * figures[f'{prefix}kept_share_unseen']:.0f}" for figures in arms["aligned"].values()]
        assert rows[row] == shown


def test_what_is_said_of_the_published_zoo_is_in_its_committed_metrics():
    metrics = read_metrics("mnist-seed")
    zoo, found = metrics["zoo"], metrics["reconstruction"]
    told = tell_paragraph("`mnist-seed` was measured")

    def tell(features, name="r2"):
        return show(metrics["probes"]["test_accuracy"][features], name, 1, 3)

    assert f"with {zoo['num_members']} of its members" in told
    assert zoo["num_epochs"] == 50
    assert f"right on {100 * zoo['accuracy_mean']:.1f} % of the test images" in told
    assert f"on {100 * zoo['accuracy_p05']:.1f} to {100 * zoo['accuracy_p95']:.1f} %" in told
    assert (
        f"come back right on {show_kept(found)} where the originals are on {100 * found['accuracy_unseen']:.1f} %"
        in told
    )
    assert f"so {100 * found['accuracy_kept_unseen'] / found['accuracy_unseen']:.0f} % is kept" in told
    behaviour = metrics["more"]["embeddings"]["mnist_seed_behaviour"]["reconstruction"]
    assert f"with the loss on behaviour {show_kept(behaviour)}" in told
    assert f"Before training it is {show_kept(found, 'untrained_')}" in told
    assert f"components of the same size keep {show_kept(found, 'pca_')}" in told
    assert f"({found['pca_unseen']:.2f} of the mean's against {found['unseen']:.2f})" in told
    assert f"R² of {tell('embedding')}, from the encoder" in told
    assert f"before any training with {tell('untrained_encoder', 'boosted_r2')}, from the statistics" in told
    assert f"each layer's weights with {tell('statistics_14', 'boosted_r2')} and" in told
    assert f"from the epoch alone with {metrics['probes']['test_accuracy']['epoch_only']['r2']:.3f}:" in told


def test_what_is_said_of_the_trainer_is_in_its_reports():
    told = tell_paragraph("## The zoo trainer", 1)
    runs = [run["figures"] for run in read_report("2026-11-29-zoo")["runs"]]
    (quiet,) = (
        run["figures"] for run in read_report("2026-11-28-zoo")["runs"] if "few neighbours" in run.get("note", "")
    )

    def tell(case, digits=0):
        return " and ".join(f"{run[f'{case}_over_baseline']:.{digits}f}" for run in runs)

    def tell_peaks(runs):
        peaks = [value for run in runs for name, value in run.items() if name.endswith("peak_fraction")]
        return f"at {min(peaks):.2f} to {max(peaks):.2f}"

    assert f"{tell('cnn_s_b10')} times the former for CNN-s at batch 10, {tell('cnn_s_b32')} at batch 32" in told
    assert f"{tell('cnn_l', 1)} for CNN-l, {tell('small_cnn')} for the Small CNN" in told
    assert f"{tell_peaks(runs)} of the cores' float32 peak" in told
    with_avx2 = [f"{quiet[f'{case}_over_baseline']:.{digits}f}" for case, digits in QUIET]
    assert f"with AVX2, in a quiet hour, {', '.join(with_avx2[:-1])} and {with_avx2[-1]}, {tell_peaks([quiet])}" in told
    assert f"{runs[-1]['logits_over_torch']:.1f} times as fast as torch" in told


QUIET = (("cnn_s_b10", 0), ("cnn_s_b32", 0), ("cnn_l", 1), ("small_cnn", 0))


def test_figures_that_the_table_borrows_are_those_of_other_reports():
    trainer = read_report("2026-11-29-zoo")["runs"][0]["figures"]
    seed = read_report("2026-11-29-mnist-seed")["figures"]
    borrowed = {f"trainer.{name}": value for name, value in trainer.items()}
    borrowed |= {f"mnist_seed.{name}": value for name, value in seed.items()}
    found = {name: value for name, value in FIGURES["figures"].items() if name.startswith(("trainer.", "mnist_seed."))}
    assert found
    assert found.items() <= borrowed.items()


def test_seconds_of_the_published_zoo_are_those_of_its_report():
    figures, zoo = read_report("2026-11-29-mnist-seed")["figures"], read_metrics("mnist-seed")["zoo"]
    assert {name: value for name, value in figures.items() if name in zoo}.items() <= zoo.items()
    told = tell_paragraph("`mnist-seed` was measured")
    minutes, whole = (round(figures[name] / 60) for name in ("zoo_s", "study_s"))
    assert f"The zoo took {minutes} minutes on two cores with AVX-512, the study {whole}" in told


def test_what_is_said_of_older_processors_is_in_the_report():
    others = FIGURES["with_avx2"]["run_s_of_others"]
    assert min(others) < FIGURES["with_avx2"]["run_s"] < max(others)
    assert f"the run took {min(others)} to {max(others)} s" in tell_paragraph("<!-- end -->", 1)


TARGETS = {
    "test accuracy": "test_accuracy",
    "epoch": "epoch",
    "generalization gap": "generalization_gap",
    "learning rate": "lr",
    "weight decay": "weight_decay",
    "dropout": "dropout",
    "activation": "activation",
    "init": "init",
    "optimizer": "optimizer",
}
FEATURES = ("weights", "statistics_14", "untrained_encoder", "embedding")


def test_table_of_the_grid_is_the_studys():
    probes = read_metrics("mnist-hyp")["probes"]
    table = README.split("<!-- mnist-hyp -->")[1].split("<!-- end mnist-hyp -->")[0].strip().splitlines()
    rows = {
        first: others for first, _, *others in ([cell.strip() for cell in row.split("|")[1:-1]] for row in table[2:])
    }
    wanted = {}
    for row, target in TARGETS.items():
        scores = [probes[target][feature] for feature in FEATURES]
        wanted[row] = [show(score, "r2" if "r2" in score else "accuracy", 100, 0) for score in scores]
    assert rows == wanted


def test_what_is_said_of_the_grid_is_in_its_committed_metrics():
    metrics = read_metrics("mnist-hyp")
    zoo, found, probes = metrics["zoo"], metrics["reconstruction"], metrics["probes"]["test_accuracy"]

    def tell(figures, name):
        return f"{100 * figures[name]:.1f} %"

    others = (metrics["more"]["embeddings"][f"mnist_hyp_{name}"]["reconstruction"] for name in ("behaviour", "outputs"))
    softened, probabilities = (tell(figures, "accuracy_kept_unseen") for figures in others)
    before, after = (
        tell_paragraph(mark, place) for mark, place in (("`mnist-hyp` trains", 0), ("<!-- end mnist-hyp -->", 1))
    )

    assert f"a member of each of the {zoo['num_members']} published combinations" in before
    assert f"half of them are right on more than {tell(zoo, 'accuracy_median')}" in before
    assert f"a twentieth on less than {tell(zoo, 'accuracy_p05')}" in before
    boosted = {name: show(figures, "boosted_r2", 100, 0) for name, figures in probes.items() if "boosted_r2" in figures}
    assert f"the statistics with {boosted['statistics_14']} and from factors and epoch with" in after
    assert f"epoch with {boosted['factors_epoch']}, from the embedding with {boosted['embedding']}" in after
    assert f"right on {show_kept(found)} where the originals are on {tell(found, 'accuracy_unseen')}" in after
    assert f"before training on {tell(found, 'untrained_accuracy_kept_unseen')}, with" in after
    assert f"the loss on behaviour on {softened} (of softened outputs) and {probabilities} (of probabilities)" in after
    assert f"principal components on {show_kept(found, 'pca_')}" in after
    seconds = read_report("2026-11-29-mnist-hyp")["figures"]
    assert {name: value for name, value in seconds.items() if name in zoo}.items() <= zoo.items()
    assert f"The zoo took {seconds['zoo_s'] / 60:.0f} minutes on two cores with AVX-512" in after
    assert f"the study {seconds['study_s'] / 60:.0f}" in after


def test_no_score_of_the_embedding_lies_outside_the_interval_before_training():
    for target, features in read_metrics("mnist-hyp")["probes"].items():
        score = "r2" if "r2" in features["embedding"] else "accuracy"
        before, after = features["untrained_encoder"], features["embedding"]
        assert before[f"{score}_low"] < after[score] < before[f"{score}_high"], target
