"""Run a whole study by its name, as a deployment; by hand it is `python -m flows.pipeline --study studies/NAME`."""

from pathlib import Path

from prefect import flow

from flows.orchestration.forms import AtOnce, StudyName, TimeoutH, list_studies
from flows.orchestration.runner import StageRun
from flows.orchestration.study_run import TASK_RUNNER, Wish, fulfil
from flows.params import suggest
from weightspace.config import BadInput


@flow(name="study", flow_run_name="{name}", task_runner=TASK_RUNNER, persist_result=False)
def study(name: StudyName, at_once: AtOnce = 2, timeout_h: TimeoutH = 168.0) -> list[StageRun]:
    """Bring a whole study up to date, independent stages side by side.

    Args:
        name: The study, a folder of studies/; quickstart is that of the checkout itself.
        at_once: Stages that may run side by side.
        timeout_h: Hours after which the run is ended; what was finished is kept.

    Raises:
        BadInput: no such study, or its parameters are wrong.
        RunTimeout: it took too long.
        StageFailed: a stage did not end well; those that do not need it were run all the same.
    """
    known = list_studies(Path())
    if name not in known:
        raise BadInput(f"name: got {name!r}, wanted {suggest(name, known)}")
    return fulfil(Wish((), (), known[name], at_once, timeout_h))
