"""Make one zoo, trained, imported or of sparse twins: `python -m flows.zoo NAME`."""

from functools import partial

from flows.orchestration.stage import run_stage
from flows.orchestration.workers import run_everywhere
from tasks.imports import make_import
from tasks.twins import make_twins
from tasks.zoo import make_zoo

if __name__ == "__main__":
    run_stage(
        "zoo",
        partial(make_zoo, run_all=run_everywhere),
        imports=make_import,
        twins=partial(make_twins, run_all=run_everywhere),
    )
