"""What a deployment may be told, as Prefect's pages ask for it and its API checks it before a run starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from flows.params import ENTRY_NAME, PARAMS_NAME, STAGES

ROOT_NAME = "quickstart"
"""What the study of the checkout itself is called, which lies in no folder of `studies/`."""
STUDIES_FOLDER = "studies"
MOST_AT_ONCE = 64
MOST_HOURS = 24.0 * 366


def list_studies(checkout: Path) -> dict[str, str]:
    """List the studies of a checkout by name, each with its folder relative to the checkout."""
    found = sorted(path.parent.name for path in checkout.glob(f"{STUDIES_FOLDER}/*/{PARAMS_NAME}"))
    return {ROOT_NAME: ".", **{name: f"{STUDIES_FOLDER}/{name}" for name in found}}


def name_study(folder: str) -> str:
    """Name the study of a folder: after the folder, or `quickstart` for the checkout itself."""
    return Path(folder).name or ROOT_NAME


# As this checkout has them when it is deployed: one that is added later can be asked for once deployed again.
KNOWN = list_studies(Path(__file__).parents[2])

StageName = Annotated[
    str,
    Field(pattern=f"^({'|'.join(STAGES)})(@{ENTRY_NAME.pattern})?$", examples=["zoo", "zoo@digits", "report"]),
]
StageNames = Sequence[StageName]
StudyFolder = Annotated[str, Field(json_schema_extra={"enum": list(KNOWN.values())})]
StudyName = Annotated[str, Field(json_schema_extra={"enum": list(KNOWN)})]
AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
TimeoutH = Annotated[float, Field(gt=0, le=MOST_HOURS)]
Suite = Literal["quick", "full"]
# No option, whatever git is asked for with it.
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./~^@-]*$", max_length=200)]
