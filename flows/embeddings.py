"""Embed the checkpoints of one weight data set: `python -m flows.embeddings NAME`."""

from flows.orchestration.stage import run_stage
from tasks.embeddings import make_embeddings

if __name__ == "__main__":
    run_stage("embeddings", make_embeddings)
