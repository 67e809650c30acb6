"""Make one zoo, trained or imported: `python -m flows.zoo NAME`."""

from functools import partial

from flows.orchestration.nesting import observe
from flows.orchestration.stage import run_stage
from tasks.imports import make_import
from tasks.zoo import make_zoo

if __name__ == "__main__":
    run_stage("zoo", partial(make_zoo, step=observe), imports=make_import)
