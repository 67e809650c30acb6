"""Serve the deployments of `prefect.yaml` from one process, on one machine: `python -m flows.serve`."""

import contextlib
import os
import sys
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import exit_on_terminate
from flows.orchestration.server import HOST, run_serving_server
from flows.orchestration.settings import apply_settings, find_checkout
from flows.params import load_yaml
from weightspace.config import BadInput

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

DEPLOYMENTS_NAME = "prefect.yaml"
PORT = 4200

Host = Annotated[str, typer.Option(help="Address that the server listens at; others than this one let others in.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port that the server listens at.")]
Runs = Annotated[int, typer.Option(min=1, help="Runs that may go on at the same time.")]


def serve_command(host: Host = HOST, port: Port = PORT, runs: Runs = 2) -> None:
    """Serve all deployments until stopped, with a server of its own, or with yours (PREFECT_API_URL)."""
    exit_on_terminate()
    try:
        checkout = find_checkout(Path())
        with contextlib.chdir(checkout):
            apply_settings(checkout)
            with provide_server(host, port) as url:
                serve_deployments(read_deployments(checkout), url, runs)
    except (BadInput, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2 if isinstance(error, BadInput) else 1)


@contextlib.contextmanager
def provide_server(host: str, port: int) -> Iterator[str]:
    """Have a server, the user's or one that ends with the block; gives the address of its API."""
    if API_URL in os.environ:
        yield os.environ[API_URL]
        return
    print("starting a Prefect server", flush=True)
    with run_serving_server(host, port) as server:
        yield server.url


def read_deployments(checkout: Path) -> list[dict[str, Any]]:
    """Read what `prefect.yaml` says of each deployment.

    Raises:
        BadInput: it has none.
    """
    path = checkout / DEPLOYMENTS_NAME
    found = load_yaml(path).get("deployments")
    if not found:
        raise BadInput(f"{path}: no deployments, wanted some")
    return found


def serve_deployments(described: Sequence[dict[str, Any]], url: str, runs: int) -> None:
    """Register deployments and run what is asked of them, until stopped."""
    from prefect import serve

    deployments = [make_deployment(each) for each in described]
    names = ", ".join(f"{each.flow_name}/{each.name}" for each in deployments)
    print(f"serving {names}; pages at {url.removesuffix('/api')}", flush=True)
    serve(*deployments, limit=runs, print_starting_message=False)


def make_deployment(described: dict[str, Any]) -> "RunnerDeployment":
    """Make a deployment of what `prefect.yaml` says of it; work pools aside, for which this process stands in."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron

    schedules = described.get("schedules", [])
    flow = load_flow_from_entrypoint(described["entrypoint"], use_placeholder_flow=False)
    deployment = flow.to_deployment(
        described["name"],
        description=described["description"],
        tags=described["tags"],
        parameters=described["parameters"],
        schedules=[Cron(each["cron"], timezone=each["timezone"], slug=each["slug"]) for each in schedules],
        concurrency_limit=ConcurrencyLimitConfig.model_validate(described["concurrency_limit"]),
        enforce_parameter_schema=True,
    )
    assert not isinstance(deployment, Coroutine), "called where no event loop runs"
    return deployment


def main() -> None:
    """Read the command line and serve."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(serve_command)
    app(prog_name="python -m flows.serve")


if __name__ == "__main__":
    main()
