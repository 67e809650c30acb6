"""Runs that nobody measured, to judge and to show."""

from datetime import UTC, datetime, timedelta

from benchmarks.history import Machine, Measured, Run

LAPTOP = Machine(2, "Some CPU", 8, "cpu")
SPEED, TIME, COUNT = "zoo.cnn_s_b10_over_baseline", "weights.align_1000_s", "weights.align_recovered"
COST, SCIENCE, LOSS = (
    "zoo.cost_4096_over_16",
    "quickstart.probes.test_accuracy.embedding.r2",
    "quickstart.reconstruction.unseen",
)


def make_up_run(number: int, figures: dict[str, Measured | float], machine: Machine = LAPTOP, suite: str = "quick"):
    """Make up the run of some day."""
    measured = {name: value if isinstance(value, Measured) else Measured(value) for name, value in figures.items()}
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    return Run(f"{time:%Y%m%d}-{number:04d}", time, suite, "0" * 40, False, machine, measured)
