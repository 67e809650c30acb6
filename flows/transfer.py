"""Fine-tune one set of samples: `python -m flows.transfer NAME`."""

from flows.orchestration.stage import run_stage
from tasks.transfer import make_transfer

if __name__ == "__main__":
    run_stage("transfer", make_transfer)
