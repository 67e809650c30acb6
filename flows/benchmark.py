"""Measure again what the project promises, in a checkout of its own, and fail if something got worse.

As a deployment it runs every night. What is measured, and against what, says `python -m benchmarks rerun`.
"""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.orchestration.artifacts import keep_image, keep_verdicts
from flows.orchestration.forms import Revision, Suite, TimeoutH
from flows.orchestration.measuring import GotWorse, Measured, measure, prepare_checkout
from flows.orchestration.study_run import hold_file

TREND_NAME = "trend.png"


@task(name="checkout", cache_policy=NO_CACHE, persist_result=False)
def make_checkout(ours: Path, folder: Path, revision: str) -> str:
    """Check out what is measured; returns the commit's hash."""
    return prepare_checkout(ours, folder, revision)


@task(name="measure", cache_policy=NO_CACHE, persist_result=False)
def measure_checkout(folder: Path, suite: str, history: Path, limit_s: float) -> Measured:
    """Run a suite in a checkout, and show what it says."""
    log = get_run_logger()

    def show(line: str) -> None:
        log.info(line)
        print(line, flush=True)

    return measure(folder, suite, history, limit_s, show)


@flow(name="benchmark", flow_run_name="{suite} at {revision}", persist_result=False)
def benchmark(
    suite: Suite = "quick",
    revision: Revision = "HEAD",
    home: str = ".prefect/benchmark",
    history: str = "data/benchmark",
    timeout_h: TimeoutH = 12.0,
) -> Measured:
    """Measure again, compare with what was measured before, and keep it.

    Args:
        suite: What is measured, quick for minutes, full for hours.
        revision: The commit to measure, as git names it in this checkout: HEAD, a branch, a tag, a hash.
        home: Folder for the checkout that is measured, relative to this one.
        history: Folder with the history of figures, relative to this checkout.
        timeout_h: Hours after which the run is ended.

    Raises:
        BadInput: no such commit, or this is no git repository.
        GotWorse: some figures did.
        TimeoutError: it took too long.
    """
    folder, kept = Path(home).resolve() / "checkout", Path(history).resolve()
    with hold_file(Path(home) / "lock", f"another benchmark runs in {home}"):
        commit = make_checkout(Path().resolve(), folder, revision)
        get_run_logger().info("measuring %s in %s", commit, folder)
        measured = measure_checkout(folder, suite, kept, 3600 * timeout_h)
    keep_verdicts(suite, commit, measured)
    if (kept / TREND_NAME).is_file():
        keep_image(kept / TREND_NAME, "benchmark-trend")
    if measured["worse"]:
        raise GotWorse(measured["worse"])
    return measured
