"""Make one image set: `python -m flows.images NAME`."""

from flows.orchestration.stage import run_stage
from tasks.images import make_images

if __name__ == "__main__":
    run_stage("images", make_images)
