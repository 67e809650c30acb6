"""Say which starting points are trained on, on which images, and for how long."""

from typing import Literal

from pydantic import Field

from weightspace.config import Config

StartName = Literal[
    "scratch",
    "scratch_sane",
    "members",
    "anchors",
    "anchors_reconstructed",
    "unseen",
    "unseen_reconstructed",
    "kde_joint",
    "kde_independent",
    "kde_released",
    "anchor_noise",
    "anchor_average",
]


class TransferConfig(Config):
    """Fine-tuning curves of samples and of everything they must be seen beside, all on one budget."""

    samples: str
    """Name of a table of samples of this study."""
    weights: str
    """Name of the weight data set that the samples came from."""
    images: str
    """Name of the image set to train on: the zoo's, or another of the same shape."""
    rows: tuple[StartName, ...] = Field(min_length=1)
    """Kinds of starting points: `scratch` (drawn like the zoo's own initial weights; `random_init` of the table of
    samples, which may lack it), `scratch_sane` (Kaiming uniform), `members` (the best train members on the zoo's
    validation images), and rows of the table of samples."""
    num_per_row: int = Field(ge=1)
    """Starting points a row, fewer where there are fewer."""
    epochs: int = Field(ge=1)
    """Passes over the training images; the same for all rows."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"]
    """Starts afresh, whatever the zoo used."""
    lr: tuple[float, ...] = Field(min_length=1)
    """Candidates, the same for all rows; each row takes the one with the best validation accuracy after the last epoch,
    the first of several as good."""
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    batch_size: int = Field(ge=1)
    train_fraction: float = Field(gt=0, le=1)
    """Part of the training images that is used, drawn anew for each starting point of a row."""
    seed: int = Field(ge=0)
    """Of batch order and dropout; the n-th starting points of all rows share theirs."""
    engine: Literal["auto", "torch", "fused_cpu", "fused_gpu"]
    """As for the zoo."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
