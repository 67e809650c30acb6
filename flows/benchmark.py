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

checkout_task = task(name="checkout", cache_policy=NO_CACHE, persist_result=False)(prepare_checkout)
measure_task = task(name="measure", cache_policy=NO_CACHE, persist_result=False)(measure)


@flow(name="benchmark", flow_run_name="{suite} at {revision}", persist_result=False)
def benchmark(
    suite: Suite = "quick", revision: Revision = "HEAD", home: str = ".prefect/benchmark", timeout_h: TimeoutH = 12.0
) -> Measured:
    """Measure again, compare with what was measured before, and keep it.

    Args:
        suite: What is measured, quick for minutes, full for hours.
        revision: The commit to measure, as git names it in this checkout: HEAD, a branch, a tag, a hash.
        home: Folder for the checkout that is measured and for the history of figures, relative to this checkout.
        timeout_h: Hours after which the run is ended.

    Raises:
        BadInput: no such commit, or this is no git repository.
        GotWorse: some figures did.
        TimeoutError: it took too long.
    """
    folder, history = (Path(home).resolve() / name for name in ("checkout", "history"))
    with hold_file(Path(home) / "lock", f"another benchmark runs in {home}"):
        commit = checkout_task(Path().resolve(), folder, revision)
        get_run_logger().info("measuring %s in %s", commit, folder)
        measured = measure_task(folder, suite, history, 3600 * timeout_h)
    keep_verdicts(suite, commit, measured)
    trend = history / "trend.png"
    if trend.is_file():
        keep_image(trend, "benchmark-trend")
    if measured["worse"]:
        raise GotWorse(measured["worse"])
    return measured
