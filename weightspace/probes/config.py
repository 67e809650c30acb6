"""Say what is predicted from what, and how."""

from typing import Annotated, Literal

from pydantic import Field

from weightspace.config import Config
from weightspace.factors import NumberFactor, WordFactor

Property = Literal[
    "test_accuracy",
    "test_loss",
    "val_accuracy",
    "val_loss",
    "train_accuracy",
    "train_loss",
    "generalization_gap",
    "epoch",
]
NumberTarget = Literal[Property, NumberFactor]
Scaling = Literal["none", "standard", "ranks"]
Penalty = Annotated[float, Field(gt=0)]
ClassTarget = WordFactor
FeatureName = Literal[
    "embedding",
    "embedding_tokens",
    "untrained_encoder",
    "weights",
    "last_layer",
    "statistics_14",
    "statistics_7",
    "statistics_pooled",
    "factors",
    "epoch_only",
    "factors_epoch",
]


class RidgeConfig(Config):
    """Linear regression with a quadratic penalty, solved in closed form in float64."""

    scaling: Scaling
    """What happens to features first, the same for every set. `none`: nothing, and a column of ones is penalised like
    the rest, as published. `standard`: mean 0 and standard deviation 1 on train rows, and an intercept without penalty.
    `ranks`: each value's rank among train rows as a normal score, then as `standard`; then a few networks with huge
    weights, which otherwise spoil every linear probe, do no harm."""
    penalties: tuple[Penalty, ...] = Field(min_length=1)
    """Candidates; the one with the best R2 on validation members counts, for each target by itself. Published: 1 and 3
    times 10 to the power -5 to 2, and 1000. With scaled features a penalty is to be seen beside the number of train
    rows, so larger ones belong in the list."""


class LogisticConfig(Config):
    """Multinomial logistic regression; features are scaled as for ridge, and as `standard` if that leaves them be."""

    penalties: tuple[Penalty, ...] = Field(min_length=1)
    """Candidates: factor of half the squared coefficients beside the summed loss. The one with the best
    accuracy on validation members counts."""
    iterations: int = Field(ge=1)
    """Bound on the steps of each fit; one that reaches it is used as it is."""


class BoostedConfig(Config):
    """Gradient-boosted trees on histograms of the features."""

    targets: tuple[NumberTarget, ...]
    """Targets that are also predicted this way; empty for none."""
    iterations: int = Field(ge=1)
    """Trees fitted; predictions use the first ones, as many as do best on validation members."""
    learning_rate: float = Field(gt=0, le=1)
    leaves: int = Field(ge=2)
    """Most leaves of a tree."""
    bins: int = Field(ge=2, le=255)
    """Of each feature. With 63, wide features take less than half the time that they take with 255, and some thousand
    checkpoints are predicted as well."""
    widest: int = Field(ge=0)
    """Sets with more features than this are left out, because time grows with them."""


class ProbesConfig(Config):
    """One table of probes: targets predicted from embeddings and from every baseline."""

    weights: str
    """Name of a weight data set of this study. Its weights are used as they lie there: aligned, if it is."""
    embeddings: str
    """Name of the embeddings of the same weight data set."""
    targets: tuple[NumberTarget | ClassTarget, ...] = Field(min_length=1)
    """What is predicted. Numbers by ridge, classes by logistic regression. One that does not vary among the train
    members is left out. `lr` and `weight_decay` are predicted as logarithms to base 10 where all are above 0."""
    features: tuple[FeatureName, ...] = Field(min_length=1)
    """From what: `embedding` (summary), `embedding_tokens` (all latent tokens), `untrained_encoder` (the summary before
    the first step of training), `weights` (the whole vector), `last_layer` (its last layer), three kinds of per-layer
    statistics, `factors` (how the member was trained), `epoch_only`, and `factors_epoch` (both)."""
    first_epoch: int = Field(ge=0)
    """Checkpoints before this epoch do not count; 0 keeps the initialisation."""
    every_epochs: int = Field(ge=1)
    """From the first epoch on, every n-th counts. Those of one member are so alike that a few tell nearly all."""
    ridge: RidgeConfig
    logistic: LogisticConfig
    boosted: BoostedConfig
    resamples: int = Field(ge=1)
    """Rounds of the bootstrap behind each 95 % interval; each draws members, not checkpoints."""
    seed: int = Field(ge=0)
    """Of the bootstrap and of the boosted trees."""
