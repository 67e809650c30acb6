"""Fine-tune one set of samples: `python -m flows.transfer NAME`."""

from functools import partial

from flows.orchestration.stage import run_stage
from flows.orchestration.workers import run_everywhere
from tasks.transfer import make_transfer

if __name__ == "__main__":
    run_stage("transfer", partial(make_transfer, run_all=run_everywhere))
