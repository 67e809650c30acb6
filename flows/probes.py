"""Fit and score one set of probes: `python -m flows.probes NAME`."""

from flows.orchestration.stage import run_stage
from tasks.probes import make_probes

if __name__ == "__main__":
    run_stage("probes", make_probes)
