"""Say how checkpoints are embedded."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from weightspace.config import Config
from weightspace.hyperrep.config import NO_IMAGES


class EmbeddingsConfig(Config):
    """The embeddings of one weight data set by one hyper-representation."""

    weights: str
    """Name of a weight data set of this study, of layouts that the hyper-representation learned from."""
    hyperrep: str
    """Name of a hyper-representation of this study."""
    images: str
    """Name of the image set to compare networks and their reconstructions on; that of the zoo. `.` where none is at
    hand: DVC then looks at all image sets for a change."""
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
    kept_networks: int = Field(ge=0)
    """Members of the train side, and as many of the test side, that run on images beside their reconstructions at the
    last epoch; 0 runs none. The baselines above are run too, where they are asked for."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""

    @model_validator(mode="after")
    def check_images(self) -> "EmbeddingsConfig":
        """Refuse to run networks without images."""
        if self.kept_networks and self.images == NO_IMAGES:
            raise ValueError(
                f"kept_networks {self.kept_networks} with images {self.images!r}; wanted the image set that the "
                "networks were trained on, or 0 networks"
            )
        return self
