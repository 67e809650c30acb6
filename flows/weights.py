"""Make one weight data set: `python -m flows.weights NAME`."""

from flows.orchestration.stage import run_stage
from tasks.weights import make_weights

if __name__ == "__main__":
    run_stage("weights", make_weights)
