"""Write one report: `python -m flows.report NAME`."""

from flows.orchestration.stage import run_stage
from tasks.report import make_report

if __name__ == "__main__":
    run_stage("report", make_report)
