"""Draw and score one set of samples: `python -m flows.samples NAME`."""

from flows.orchestration.stage import run_stage
from tasks.samples import make_samples

if __name__ == "__main__":
    run_stage("samples", make_samples)
