"""Make one set of embeddings: `python -m flows.embeddings NAME`."""

from functools import partial

from flows.orchestration.stage import run_stage
from flows.orchestration.workers import run_everywhere
from tasks.embeddings import make_embeddings

if __name__ == "__main__":
    run_stage("embeddings", partial(make_embeddings, run_all=run_everywhere))
