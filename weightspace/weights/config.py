"""Say which checkpoints of a zoo make a weight data set, and in which form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weightspace.config import Config


class EpochRange(Config):
    """Epochs at equal steps."""

    kind: Literal["range"]
    first: int = Field(ge=0)
    """0 is the initialisation."""
    last: int | None
    """None: to the end."""
    every: int = Field(ge=1)


class EpochList(Config):
    """Epochs named one by one; one that a member does not have is not an error."""

    kind: Literal["list"]
    epochs: tuple[int, ...] = Field(min_length=1)


class Filter(Config):
    """Keep checkpoints whose property or factor lies between two bounds, both included."""

    column: str
    """Name of a number in the zoo's table, such as `test_accuracy` or `lr`."""
    low: float | None
    """None: no lower bound."""
    high: float | None
    """None: no upper bound."""


class SplitConfig(Config):
    """Parts of the members that go to each side; all checkpoints of a member go together."""

    train: float = Field(gt=0, le=1)
    val: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)
    """The three add up to 1."""
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def check_sum(self) -> "SplitConfig":
        """Refuse parts that are not the whole."""
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}, wanted 1")
        return self


class BestMember(Config):
    """The train member with the highest validation accuracy at its last epoch."""

    kind: Literal["best"]


class NamedMember(Config):
    """A member of the zoo by name; on any side of the split."""

    kind: Literal["member"]
    member: str


class NoAlignment(Config):
    """Keep the order of units that training left."""

    kind: Literal["none"]


class WeightMatching(Config):
    """Reorder each member's units to lie near those of one reference member (git re-basin)."""

    kind: Literal["weight_matching"]
    reference: Annotated[BestMember | NamedMember, Field(discriminator="kind")]
    """Taken at its last epoch; the same for train, val and test."""
    seed: int = Field(ge=0)
    """Decides in which order the layers are matched."""
    max_sweeps: int = Field(ge=1)
    """Passes over all layers after which a member stops, converged or not; the papers use 100."""


class NoStandardization(Config):
    """Mean 0 and scale 1: weights stay as they are."""

    kind: Literal["none"]


class TensorStandardization(Config):
    """One mean and one standard deviation for each tensor: a layer's weight and its bias have their own."""

    kind: Literal["tensor"]


class LayerStandardization(Config):
    """One mean and one standard deviation a layer, over all numbers of all train checkpoints."""

    kind: Literal["layer"]


class RobustStandardization(Config):
    """Per tensor the median over train checkpoints of their means, and of their spreads about it.

    A few members with huge weights move the mean and the standard deviation of a tensor, and not these.
    """

    kind: Literal["robust"]


class GlobalStandardization(Config):
    """One mean and one standard deviation for all layers."""

    kind: Literal["global"]


class WeightsConfig(Config):
    """One weight data set: which checkpoints of which zoo, how split, aligned and scaled."""

    zoo: str
    """Name of a zoo of this study."""
    epochs: Annotated[EpochRange | EpochList, Field(discriminator="kind")]
    filters: tuple[Filter, ...]
    """A checkpoint stays if it passes all; empty for no filter."""
    max_abs_weight: float | None = Field(gt=0)
    """A checkpoint with a larger weight is left out; None keeps all. SANE's CNN zoos use 100."""
    split: SplitConfig
    alignment: Annotated[NoAlignment | WeightMatching, Field(discriminator="kind")]
    standardization: Annotated[
        NoStandardization
        | TensorStandardization
        | LayerStandardization
        | RobustStandardization
        | GlobalStandardization,
        Field(discriminator="kind"),
    ]
    """Statistics come from the train members only; diverged checkpoints do not count."""
