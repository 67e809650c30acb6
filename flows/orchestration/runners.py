"""The one setting that says where the parts of a stage run: here, or on workers, on this machine or on others.

It is a file of the checkout that is not shared, `runner.toml`, or the one that an environment variable names. It is no
parameter of a stage: where something runs does not change what it makes, and must not make a stage run again.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from flows.orchestration.settings import find_checkout
from weightspace.config import BadInput, Config

FILE_NAME = "runner.toml"
FILE_VARIABLE = "WEIGHTSPACE_RUNNER"
"""Environment variable with the path of another file."""


class Here(Config):
    """One part after another in the stage's own process, each on all cores."""

    kind: Literal["here"]


class Pool(Config):
    """What every kind of workers has."""

    num_workers: int | None = Field(None, ge=1)
    """Parts that run side by side. Must be said, except for a cluster that is there already."""
    threads_per_worker: int | None = Field(None, ge=1)
    """None: the cores of this machine, shared out."""
    gpus_per_worker: int = Field(0, ge=0, le=1)
    """1: each worker sees a GPU of its own. 0: each sees what its machine, or who started it, shows it."""

    @model_validator(mode="after")
    def check_num_workers(self) -> Self:
        """Check that the number of workers is known."""
        if self.num_workers is None and getattr(self, "address", None) is None:
            raise ValueError("num_workers: got none, wanted how many")
        return self


class Threads(Pool):
    """Threads of the stage's process, which sees the same GPUs in each."""

    kind: Literal["threads"]
    gpus_per_worker: int = Field(0, ge=0, le=0)


class Processes(Pool):
    """Processes on this machine."""

    kind: Literal["processes"]


class Cluster(Pool):
    """Workers of Dask or Ray: of a cluster that is there, or of one started on this machine for as long as it runs."""

    kind: Literal["dask", "ray"]
    address: str | None = None
    """Of Dask's scheduler, `tcp://HOST:8786`, or of Ray's head, `HOST:6379`. None: start workers on this machine."""

    @model_validator(mode="after")
    def check_address(self) -> Self:
        """Check that a cluster which is there is described by what it has."""
        if self.address is not None and self.num_workers is not None:
            raise ValueError(f"num_workers: got {self.num_workers}, but the cluster at {self.address} has its own")
        if self.address is not None and self.threads_per_worker is None:
            raise ValueError(f"threads_per_worker: got none, wanted it said for the machines behind {self.address}")
        return self


Workers = Threads | Processes | Cluster
Runner = Annotated[Here | Workers, Field(discriminator="kind")]


def read_runner(folder: Path) -> Here | Workers:
    """Read where the parts of stages run: `here` unless a file says otherwise.

    Raises:
        BadInput: the file that is named is missing, or what it says is wrong.
    """
    path = find_file(folder)
    if path is None:
        return Here(kind="here")
    try:
        return TypeAdapter[Any](Runner).validate_python(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: {describe_first(error)}") from error


def find_file(folder: Path) -> Path | None:
    """Find the file with the setting; None if there is none."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    path = find_checkout(folder) / FILE_NAME
    return path if path.exists() else None


def describe_first(error: ValidationError) -> str:
    """Say in a line what is wrong, first things first: the key, what came, what was wanted."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"][1:])
    said = problem["msg"].removeprefix("Value error, ")
    return f"{key}: got {problem['input']!r}; {said}" if key else said
