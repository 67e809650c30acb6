"""Bring a study up to date through Prefect: `python -m flows.pipeline [TARGETS]`."""

if __name__ == "__main__":
    import gc

    # What imports make is no garbage; to look through it took a fifth of a run that has nothing to do.
    gc.disable()
    # Before Prefect is imported: the command sets the environment that Prefect reads once.
    from flows.orchestration.command import main

    main()

from prefect import flow
from prefect.runtime import flow_run

from flows.orchestration.forms import AtOnce, StageNames, StudyFolder, TimeoutH, name_study
from flows.orchestration.runner import StageRun
from flows.orchestration.study_run import TASK_RUNNER, Wish, fulfil


def name_run() -> str:
    """Name a run after its study and what is asked for."""
    wanted = [*flow_run.parameters["targets"], *(f"{name}, forced" for name in flow_run.parameters["force"])]
    return f"{name_study(flow_run.parameters['study'])}: {'; '.join(wanted) or 'all'}"


@flow(name="pipeline", flow_run_name=name_run, task_runner=TASK_RUNNER, persist_result=False)
def pipeline(
    targets: StageNames = (),
    force: StageNames = (),
    study: StudyFolder = ".",
    at_once: AtOnce = 2,
    timeout_h: TimeoutH = 168.0,
) -> list[StageRun]:
    """Bring a study up to date, independent stages side by side.

    Args:
        targets: Stages to bring up to date with all they need, zoo for all zoos, zoo@digits for one. Empty for all.
        force: Stages that run even if nothing changed, named the same way.
        study: Folder with the study's params.yaml, in the checkout.
        at_once: Stages that may run side by side.
        timeout_h: Hours after which the run is ended; what was finished is kept.

    Raises:
        BadInput: the parameters are wrong, or no such stage.
        RunTimeout: it took too long.
        StageFailed: a stage did not end well; those that do not need it were run all the same.
    """
    return fulfil(Wish(targets, force, study, at_once, timeout_h))
