"""Say which networks a zoo trains."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from weightspace.config import Config
from weightspace.factors import FactorName

TrainMetrics = Literal["after", "during"]
Number = float | bool
"""Of a factor. `true` is no number and refused when members are drawn; a plain `float` would take it for 1."""
Value = Number | str


class Fixed(Config):
    """One value for all members."""

    kind: Literal["fixed"]
    value: Value


class Choice(Config):
    """One of some values: each in turn in a grid, where none may stand twice; each as likely in a draw."""

    kind: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=1)


class Uniform(Config):
    """A number between two bounds, all as likely. Draws only."""

    kind: Literal["uniform"]
    low: Number
    high: Number


class LogUniform(Config):
    """A number between two positive bounds whose logarithm is uniform. Draws only."""

    kind: Literal["log_uniform"]
    low: Number = Field(gt=0)
    high: Number = Field(gt=0)


Factor = Annotated[Fixed | Choice | Uniform | LogUniform, Field(discriminator="kind")]
Factors = dict[FactorName, Factor]
"""All must be said, except `seed` and what a zoo may do without: `schedule` (of the learning rate: constant, one_cycle
or cosine), `label_noise` (share of the training labels that are wrong) and `augmentation` (none, or any of crop, flip
and rotate in this order, such as crop_flip)."""


class Draw(Config):
    """Members drawn at random over the factors, each with a seed of its own."""

    kind: Literal["draw"]
    count: int = Field(ge=1)
    seed: int = Field(ge=0, le=9_000_000_000)
    """Seeds the draw; member i trains with seed 1000000 * this + i, unless `seed` is a factor."""
    factors: Factors


class DrawnSeeds(Config):
    """For each member of a grid a seed drawn at random; two of different combinations may be alike."""

    kind: Literal["drawn"]
    count: int = Field(ge=1)
    """Members of each combination."""
    below: int = Field(ge=1, le=2**53)
    """Seeds are whole numbers from 0 to below this."""
    seed: int = Field(ge=0)
    """Seeds the draw."""


class Grid(Config):
    """Every combination of the factors' values, each with several seeds."""

    kind: Literal["grid"]
    seeds: Annotated[tuple[Annotated[int, Field(strict=True)], ...], Field(min_length=1)] | DrawnSeeds
    """Those that every combination has, each once, or how to draw some for each."""
    max_members: int = Field(ge=1)
    """A grid that expands to more is refused."""
    factors: Factors


class Mlp(Config):
    """A chain of linear layers, for images of any size."""

    kind: Literal["mlp"]
    widths: tuple[Annotated[int, Field(ge=1)], ...]
    """Neurons of each hidden layer."""
    bias: bool
    """False: weights only, as in the Tetris zoo."""


class Resnet(Config):
    """A residual network with the stem for CIFAR images: 3x3 at stride 1, no pooling."""

    kind: Literal["resnet"]
    depth: Literal[18, 50]
    width: int = Field(ge=1)
    """Channels of the first stage; 64 as published."""


class Module(Config):
    """A network that you wrote yourself, as a torch module."""

    kind: Literal["module"]
    path: str
    """`package.module:Name` of a class or function that makes the module, importable from the study's folder; it runs
    whenever this zoo is made, and never when one is read."""
    arguments: dict[str, JsonValue]
    """What it is called with."""


class ZooConfig(Config):
    """One zoo: its images, its architecture, its members and how long they train."""

    images: str
    """Name of an image set of this study."""
    architecture: str | Annotated[Mlp | Resnet | Module, Field(discriminator="kind")]
    """`cnn_s`, `cnn_l`, `small_cnn`, an `mlp` with its widths, a `resnet`, or a `module` of your own."""
    members: Annotated[Draw | Grid, Field(discriminator="kind")]
    epochs: int = Field(ge=1)
    """Passes over each member's training images; a checkpoint follows each, and epoch 0 is the initialisation."""
    shard_size: int = Field(ge=1)
    """Members trained at once and kept as one file that survives a crash. Changes no result of the fused engines."""
    engine: Literal["auto", "torch", "fused_cpu", "fused_gpu"]
    """`auto` takes the fastest measured engine of the device that can train every member; the zoo's record names it."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""
    train_metrics: TrainMetrics
    """Where `train_loss` and `train_accuracy` come from: `after` each epoch, from the network it leaves, without
    dropout, in one more pass over the images it trains on; or `during` the epoch, from each batch as it is learned
    from, which costs nothing and is what the published Model Zoos have. At epoch 0 always the former."""
    together: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Residual networks and modules that are trained side by side, at most `shard_size`; where fewer are left, copies
    fill up, so that what a member computes is the same to the bit. None: as many as fit the device's memory, on a CPU
    one."""
