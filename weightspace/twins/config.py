"""Say which sparse twins of a zoo's members are made, and how."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator

from weightspace.config import Config

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[FiniteFloat, Field(gt=0)]


class Variational(Config):
    """Variational dropout: a variance beside each number, and what is mostly noise becomes 0.

    Members train on with their own optimizer, batch size, images and labels, without weight decay and dropout, whose
    place the penalty takes.
    """

    kind: Literal["variational"]
    epochs: int = Field(ge=1)
    """Passes over each member's training images; a checkpoint follows each, and epoch 0 is the start."""
    log_sigma2: FiniteFloat
    """Logarithm of each number's variance at the start."""
    threshold: FiniteFloat
    """A number whose log alpha (logarithm of variance over square) is above this becomes 0 in what is kept."""
    penalty: Annotated[FiniteFloat, Field(ge=0)]
    """Factor of the divergence from the prior, over the number of training images; 1 is the variational bound."""
    warmup_epochs: int = Field(ge=0)
    """Over so many epochs the penalty rises, epoch by epoch: there is none in the first, and all of it after them."""
    lr: Rate | None
    """Learning rate of the weights; None: each member's own."""
    variance_lr: Rate | None
    """Learning rate of the logarithms of variances; None: that of the weights."""


class Magnitude(Config):
    """Magnitude pruning: the smallest numbers become 0, step by step to higher sparsities."""

    kind: Literal["magnitude"]
    sparsities: tuple[Sparsity, ...] = Field(min_length=1)
    """Share of all numbers, biases included, that are 0 after each step; ascending. Each step is an epoch."""
    scope: Literal["network", "layer"]
    """Where the smallest are sought: among all numbers of a network, or in each layer as large a share."""
    epochs: int = Field(ge=0)
    """Passes over the training images after each step with the zeros held, each an epoch of its own; members train as
    they did, at the rate that their schedules start from."""

    @field_validator("sparsities")
    @classmethod
    def check_order(cls, sparsities: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse steps that do not lead to higher sparsities."""
        if list(sparsities) != sorted(set(sparsities)):
            raise ValueError("sparsities in ascending order")
        return sparsities


class TwinsConfig(Config):
    """Sparse twins: each starts from the weights of one member of a zoo and keeps its name."""

    zoo: str
    """Name of a zoo of this study, of networks that are chains of blocks."""
    images: str
    """Name of the image set that it was trained on."""
    from_epoch: int = Field(ge=0)
    """The checkpoints that twins start from."""
    method: Annotated[Variational | Magnitude, Field(discriminator="kind")]
    shard_size: int = Field(ge=1)
    """Members trained at once and kept as one file that survives a crash."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
