"""What each figure of the scheduled rerun means, which way is better, and by how much it may get worse.

The one place where a figure is declared: one that a benchmark gives and this table lacks is an error, as is one that
this table has and a benchmark does not give. `python -m benchmarks rerun` judges by it.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["ratio", "seconds", "bytes", "science"]
"""`ratio`: of two things measured in one run, so that most of what else a machine does falls out. `seconds`: times and
rates, of this machine at this hour. `bytes`: sizes, or parts of one. `science`: what the quickstart found out."""
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Figure:
    """One figure of the rerun."""

    meaning: str
    kind: Kind
    better: Better
    tolerance: float | None = None
    """Part of the reference by which it may be worse. None: seconds are never judged, science by its intervals."""
    quick: bool = True
    """Whether the quick suite measures it."""
    gpu: bool = False
    """Whether it is measured only where there is a GPU."""

    @property
    def judged(self) -> bool:
        """Tell what may get worse from what is only kept and shown."""
        return self.kind == "science" or self.tolerance is not None


def declare_training() -> dict[str, Figure]:
    """Declare what `zoo` measures of each network; rates are by processor time, which other work touches little."""
    figures: dict[str, Figure] = {}
    cases = {"cnn_s_b10": "CNN-s, batch 10", "cnn_s_b32": "CNN-s, batch 32", "cnn_l": "CNN-l", "small_cnn": "small CNN"}
    for case, name in cases.items():
        quick = case in QUICK_CASES
        parts = {
            "over_baseline": ("trained by the fused engine, over one process per core", 0.3),
            "over_reference": ("trained by the fused engine, over the style of published generators", 0.3),
            "peak_fraction": ("operations of the fused engine, of what the cores can do", 0.3),
        }
        for part, (text, tolerance) in parts.items():
            stem = case.removesuffix("_b10") if part == "peak_fraction" else case
            figures[f"zoo.{stem}_{part}"] = Figure(f"{name}: {text}", "ratio", "higher", tolerance, quick)
        text = f"{name}: images x members a second, fused engine"
        figures[f"zoo.{case}_per_s"] = Figure(text, "seconds", "higher", quick=quick)
    return figures


def declare_learning() -> dict[str, Figure]:
    """Declare what `hyperrep` measures at each size, by wall time, which other work touches much."""
    figures: dict[str, Figure] = {}
    for end, size in (("", "published size"), ("_small", "small")):
        for loop, text in (("loop", "the published loop"), ("blocks", "the published loop with our blocks")):
            text = f"a training step, {size}: {text}, over ours"
            figures[f"hyperrep.train_over_2021_{loop}{end}"] = Figure(text, "ratio", "higher", 0.25)
        text = f"a training step, {size}: matrix products, of what the machine can do"
        figures[f"hyperrep.peak_fraction{end}"] = Figure(text, "ratio", "higher", 0.35)
        figures[f"hyperrep.tokens_per_s{end}"] = Figure(f"tokens learned from a second, {size}", "seconds", "higher")
    return figures


def science(meaning: str, better: Better = "higher") -> Figure:
    """Declare a figure of the quickstart's report."""
    return Figure(meaning, "science", better)


NOOP_WAYS = {"server": "Prefect door, a server running", "embedded": "Prefect door, its own server", "dvc": "DVC door"}
QUICK_CASES = ("cnn_s_b10",)
"""Networks of the `zoo` benchmark that the quick suite trains."""
FIGURES: dict[str, Figure] = {
    **declare_training(),
    "zoo.cost_4096_over_16": Figure(
        "time a member for a zoo of 4,096, over that for a zoo of 16", "ratio", "lower", 0.3
    ),
    "zoo.logits_over_torch": Figure(
        "networks run on the same images, over torch's batched operations", "ratio", "higher", 0.3
    ),
    "zoo.mnist_seed_s": Figure(
        "seconds of the published MNIST seed zoo on a GPU", "seconds", "lower", quick=False, gpu=True
    ),
    "zoo.mnist_seed_floor_fraction": Figure(
        "the same: time of its operations alone, of the whole", "ratio", "higher", 0.2, quick=False, gpu=True
    ),
    "weights.read_over_pyarrow": Figure(
        "weights read into one tensor, over pyarrow's own reader", "ratio", "higher", 0.2
    ),
    "weights.read_gb_per_s": Figure("weights read into one tensor, GB a second", "seconds", "higher"),
    # The same bytes each time, but for what a new version of zstd or pyarrow does.
    "weights.bytes_over_floor": Figure("a weight data set on disk, over its numbers in memory", "bytes", "lower", 0.02),
    "weights.load_over_files": Figure(
        "weights read from one state dict a file, over reading ours", "ratio", "higher", 0.4
    ),
    "weights.views_per_s": Figure("permuted views of CNN-s a second", "seconds", "higher"),
    "weights.views_over_loop": Figure("views made one network at a time, over ours", "ratio", "higher", 0.25),
    "weights.align_1000_s": Figure("seconds to align 1,000 members of CNN-s", "seconds", "lower"),
    "weights.align_speedup": Figure("members aligned one at a time by one descent, over ours", "ratio", "higher", 0.25),
    # A count, the same each time: one that is lost is a fault.
    "weights.align_recovered": Figure("planted orders that alignment finds to the bit", "ratio", "higher", 0.0),
    **declare_learning(),
    "hyperrep.permutations_25000_over_10": Figure(
        "views of orders drawn anew, over views of one of ten orders", "ratio", "lower", 0.25
    ),
    "probes.ridge_over_sklearn": Figure("linear probes by scikit-learn in loops, over ours", "ratio", "higher", 0.3),
    "probes.intervals_over_loop": Figure(
        "intervals of scores from each round's rows, over ours", "ratio", "higher", 0.3
    ),
    "probes.fits_per_s": Figure("linear probes fitted a second", "seconds", "higher"),
    "pipeline.run_s": Figure("seconds of the quickstart study from nothing", "seconds", "lower", quick=False),
    "pipeline.noop_prefect_s": Figure(
        "seconds of the same at once again, Prefect door", "seconds", "lower", quick=False
    ),
    "pipeline.noop_dvc_s": Figure("seconds of the same at once again, DVC door", "seconds", "lower", quick=False),
    "pipeline.repro_s": Figure("seconds of the same from nothing, DVC door", "seconds", "lower", quick=False),
    "pipeline.run_over_repro": Figure(
        "the quickstart study from nothing: Prefect door, over DVC door", "ratio", "lower", 0.1, quick=False
    ),
    **{
        f"pipeline.noop30_{way}_s": Figure(
            f"seconds to find that none of 30 stages changed: {text}", "seconds", "lower", quick=False
        )
        for way, text in NOOP_WAYS.items()
    },
    "pipeline.noop30_server_over_dvc": Figure(
        "to find that none of 30 stages changed: Prefect door with a server, over DVC door",
        "ratio",
        "lower",
        0.5,
        quick=False,
    ),
    # Looked at five times a second, so that short peaks are met or missed.
    "pipeline.peak_rss_gib": Figure(
        "most memory of all processes of the quickstart study, GiB", "bytes", "lower", 0.25, quick=False
    ),
    "quickstart.zoo.accuracy_mean": science("test accuracy of trained members"),
    "quickstart.reconstruction.unseen": science("error of reconstructed weights, unseen members", "lower"),
    "quickstart.reconstruction.accuracy_kept_unseen": science("accuracy kept by reconstruction, unseen members"),
    "quickstart.reconstruction.agreement_unseen": science("predictions kept by reconstruction, unseen members"),
    "quickstart.probes.test_accuracy.embedding.r2": science("accuracy from embeddings, linear, R2"),
    "quickstart.probes.test_accuracy.embedding.boosted_r2": science("accuracy from embeddings, boosted trees, R2"),
    "quickstart.probes.epoch.embedding.r2": science("epoch from embeddings, linear, R2"),
    "quickstart.samples.kde_joint.accuracy_mean": science("test accuracy of samples before training"),
    "quickstart.samples.unseen_reconstructed.accuracy_mean": science("test accuracy of reconstructed unseen members"),
    "quickstart.transfer.digits.kde_joint.accuracy_at.1": science("samples after an epoch on their own images"),
    "quickstart.transfer.mnist5k.kde_joint.accuracy_at.1": science("samples after an epoch on other images"),
}


def find_expected(benchmark: str, quick: bool, gpu: bool = False) -> list[str]:
    """List the figures that a benchmark has to give in a suite, on a machine with a GPU or without."""
    return [
        name
        for name, figure in FIGURES.items()
        if name.startswith(f"{benchmark}.") and (figure.quick or not quick) and (gpu or not figure.gpu)
    ]
