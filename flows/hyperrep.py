"""Learn one hyper-representation: `python -m flows.hyperrep NAME`."""

from flows.orchestration.stage import run_stage
from tasks.hyperrep import make_hyperrep

if __name__ == "__main__":
    run_stage("hyperrep", make_hyperrep)
