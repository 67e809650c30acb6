"""A configuration of embeddings for tests, to be changed where a test needs something else."""

from typing import Any

from weightspace.embeddings.config import EmbeddingsConfig


def configure_embeddings(**changes: Any) -> EmbeddingsConfig:
    said: dict[str, Any] = {
        "weights": "w",
        "hyperrep": "h",
        "images": ".",
        "summary": "latents",
        "halo": 2,
        "networks_at_once": 16,
        "reconstruction_baseline": True,
        "untrained_baseline": False,
        "kept_networks": 0,
        "device": "cpu",
    }
    return EmbeddingsConfig.model_validate(said | changes)
