"""Show steps inside a stage as tasks of the pipeline run that started the stage.

Nothing is pickled: the run and the task are handed over by their ids. Importing Prefect takes longer than most stages
need, so that only a stage that observes its steps pays for it, at its first step.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

API_URL = "PREFECT_API_URL"
HANDED_RUN = "WEIGHTSPACE_PREFECT_RUN"
"""Environment variable by which the pipeline tells a stage which run and task it belongs to."""
DIRECT = "WEIGHTSPACE_DIRECT"
"""Environment variable that, when set, keeps stages from reporting to Prefect."""


def describe_run(flow_run_id: object, task_run_id: object) -> dict[str, str]:
    """Describe the present run in the environment of a stage."""
    return {} if os.environ.get(DIRECT) else {HANDED_RUN: f"{flow_run_id} {task_run_id}"}


def is_observed() -> bool:
    """Say whether this stage is part of a pipeline run that shows its steps."""
    return bool(os.environ.get(HANDED_RUN)) and API_URL in os.environ and not os.environ.get(DIRECT)


def observe(function: Function) -> Function:
    """Make a task of a function where the stage is part of a pipeline run; leave it alone elsewhere."""
    return make_task(function, function.__name__) if is_observed() else function


def make_task(function: Function, name: str) -> Function:
    """Make a task of the pipeline run that this stage is part of."""
    attach(*os.environ[HANDED_RUN].split())
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(name=name, cache_policy=NO_CACHE, persist_result=False)(function)  # pyright: ignore[reportReturnType]


@functools.cache
def attach(flow_run_id: str, task_run_id: str) -> None:
    """Enter the context of a run that another process owns, until this process ends."""
    from uuid import UUID

    from prefect import Flow, Task
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import TaskRun
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.results import ResultStore
    from prefect.task_runners import ThreadPoolTaskRunner

    client = get_client(sync_client=True)
    store = ResultStore()
    FlowRunContext(
        flow=Flow(lambda: None, name="stage"),
        flow_run=client.read_flow_run(UUID(flow_run_id)),
        client=client,
        task_runner=ThreadPoolTaskRunner(),
        result_store=store,
        detached=True,
    ).__enter__()
    parent = TaskRun(id=UUID(task_run_id), flow_run_id=UUID(flow_run_id), task_key="stage", dynamic_key="0")
    TaskRunContext(
        task=Task(lambda: None, name="stage"), task_run=parent, parameters={}, client=client, result_store=store
    ).__enter__()
