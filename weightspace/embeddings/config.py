"""Say how checkpoints are embedded."""

from typing import Literal

from pydantic import Field, PositiveInt

from weightspace.config import Config


class EmbeddingsConfig(Config):
    """The embeddings of one weight data set by one hyper-representation."""

    weights: str
    """Name of a weight data set of this study, of layouts that the hyper-representation learned from."""
    hyperrep: str
    """Name of a hyper-representation of this study."""
    summary: Literal["features", "latents", "pooled"]
    """What stands for a whole network: `features`, the mean over each layer's tokens of what the encoder knows of
    them; `latents`, mean and standard deviation over each layer's tokens of their latents; `pooled`, the mean of all
    latents, as published. Only `pooled` is of one length for networks of several layouts."""
    halo: int = Field(ge=0)
    """Tokens of context on each side of a window; of no account where one window holds a whole network."""
    networks_at_once: PositiveInt
    """Networks that go through the model together; more need more memory."""
    reconstruction_baseline: bool
    """Measure principal components with as many numbers a network beside the hyper-representation."""
    untrained_baseline: bool
    """Sum networks up by the encoder as it was before its first step, too: what needs no training."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
