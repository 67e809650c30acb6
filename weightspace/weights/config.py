"""Say which checkpoints of a zoo make a weight data set, and in which form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weightspace.config import Config
from weightspace.weights.canonical_config import Canonical, Sort

EVERY_ZOO = "."


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


class RangeFilter(Config):
    """Keep checkpoints whose property or factor lies between two bounds, both included; a gap lies nowhere."""

    kind: Literal["range"]
    column: str
    """Name of a number in the zoo's table, such as `test_accuracy` or `lr`. Diverged checkpoints stay, as marked."""
    low: float | None
    """None: no lower bound."""
    high: float | None
    """None: no upper bound."""


class ValuesFilter(Config):
    """Keep checkpoints with one of some values of a factor or property."""

    kind: Literal["values"]
    column: str
    """Name of words or numbers in the zoo's table, such as `activation`, `batch_size` or, of several zoos, `zoo`."""
    values: tuple[bool | int | float | str, ...] = Field(min_length=1)
    """Each must be there at least once."""


class RandomSplit(Config):
    """Parts of the members that go to each side at random; all checkpoints of a member go together."""

    kind: Literal["random"]
    train: float = Field(gt=0, le=1)
    val: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)
    """The three add up to 1."""
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def check_sum(self) -> "RandomSplit":
        """Refuse parts that are not the whole."""
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}, wanted 1")
        return self


class CountSplit(Config):
    """So many members on each side, at random; all checkpoints of a member go together, members left over are not used.

    With the same seed, val and test are the same members whatever `train` is, and more train members are the fewer ones
    and others: data sets of several sizes can be compared.
    """

    kind: Literal["counts"]
    train: int = Field(ge=1)
    val: int = Field(ge=0)
    test: int = Field(ge=0)
    seed: int = Field(ge=0)


class ColumnSplit(Config):
    """The zoo itself says which side a member is on, as where a published split was imported."""

    kind: Literal["column"]
    column: str
    """Name of words in the zoo's table: `train`, `val` or `test`, the same for all checkpoints of a member."""


class MemberSplit(Config):
    """Members by name; those that are not named are train."""

    kind: Literal["members"]
    val: tuple[str, ...]
    test: tuple[str, ...]
    """Of several zoos, members are named `zoo/member`."""

    @model_validator(mode="after")
    def check_sides(self) -> "MemberSplit":
        """Refuse a member on two sides."""
        both = sorted(set(self.val) & set(self.test))
        if both:
            raise ValueError(f"val and test have no member in common, not {both[0]!r}")
        return self


SplitConfig = RandomSplit | CountSplit | ColumnSplit | MemberSplit


class BestMember(Config):
    """The train member with the highest validation accuracy at its last epoch; a zoo must tell `val_accuracy`."""

    kind: Literal["best"]


class FirstMember(Config):
    """The train member that comes first by name, of those that have not diverged by their last epoch."""

    kind: Literal["first"]


class NamedMember(Config):
    """A member of the zoo by name; on any side of the split. Only for networks of one layout."""

    kind: Literal["member"]
    member: str
    """Of several zoos, `zoo/member`."""


class NoAlignment(Config):
    """Keep the order of units that training left."""

    kind: Literal["none"]


class WeightMatching(Config):
    """Reorder each member's units to lie near those of one reference member (git re-basin)."""

    kind: Literal["weight_matching"]
    reference: Annotated[BestMember | FirstMember | NamedMember, Field(discriminator="kind")]
    """Taken at its last epoch; the same for train, val and test. Where networks have several layouts, one for each."""
    seed: int = Field(ge=0)
    """Decides in which order the layers are matched."""
    max_sweeps: int = Field(ge=1)
    """Passes over all layers after which a member stops, converged or not; the papers use 100."""


AlignmentConfig = NoAlignment | WeightMatching | Sort


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
    """Name of a zoo of this study, or `.` for all of them in one data set. Members are then named `zoo/member`, and a
    column `zoo` says which; zoos may have other images, other columns and other architectures."""
    epochs: Annotated[EpochRange | EpochList, Field(discriminator="kind")]
    filters: tuple[Annotated[RangeFilter | ValuesFilter, Field(discriminator="kind")], ...]
    """A checkpoint stays if it passes all; empty for no filter."""
    max_abs_weight: float | None = Field(gt=0)
    """A checkpoint with a larger weight, as it was trained, is left out; None keeps all. SANE's CNN zoos use 100."""
    split: Annotated[SplitConfig, Field(discriminator="kind")]
    canonical: Canonical
    alignment: Annotated[AlignmentConfig, Field(discriminator="kind")]
    standardization: Annotated[
        NoStandardization
        | TensorStandardization
        | LayerStandardization
        | RobustStandardization
        | GlobalStandardization,
        Field(discriminator="kind"),
    ]
    """Statistics come from the train members only; diverged checkpoints do not count. Each tensor of a norm always has
    its own: scale, shift, mean and variance are numbers of four kinds."""

    @model_validator(mode="after")
    def check_sort(self) -> "WeightsConfig":
        """Refuse to sort units by a norm that is 1 for all of them."""
        if self.canonical.scale and isinstance(self.alignment, Sort) and self.alignment.key == "incoming":
            raise ValueError("alignment.key is both where canonical.scale gives all incoming weights norm 1")
        return self
