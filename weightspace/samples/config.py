"""Say how new weights are sampled, and from which anchors."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weightspace.config import Config

ROWS = (
    "random_init",
    "random_init_sane",
    "anchors",
    "anchors_reconstructed",
    "unseen",
    "unseen_reconstructed",
    "kde_joint",
    "kde_independent",
    "kde_released",
    "anchor_noise",
    "anchor_average",
)
"""All rows that a table of samples can have. The first six are always there, but for `random_init` where the zoo does
not say how its members were initialised, or says it in a word that we do not know."""


class AnchorsConfig(Config):
    """Which checkpoints sampling starts from: train members that do best on validation images."""

    top_fraction: float = Field(gt=0, le=1)
    """Part of the checkpoints that become anchors; published: 0.3. The same part of the test members is `unseen`."""
    epochs: Literal["last", "all"]
    """`last`: only members as they end count; `all`: checkpoints of all epochs."""


class AbsoluteBandwidth(Config):
    """A standard deviation in the units of the latents. Published: 0.002 for whole-vector latents, 0.2 for tokens."""

    kind: Literal["absolute"]
    value: float = Field(gt=0)


class RelativeBandwidth(Config):
    """A standard deviation as part of that of the anchors' latents within one activation, number by number."""

    kind: Literal["relative"]
    value: float = Field(gt=0)


Bandwidth = Annotated[AbsoluteBandwidth | RelativeBandwidth, Field(discriminator="kind")]


class KdeJoint(Config):
    """One anchor's latents plus noise, fresh for every number."""

    kind: Literal["kde_joint"]
    bandwidth: Bandwidth


class KdeIndependent(Config):
    """Each latent number from an anchor of its own, plus noise."""

    kind: Literal["kde_independent"]
    bandwidth: Bandwidth


class KdeReleased(Config):
    """A replica of what the published code does: one anchor's latents plus one random number for all of them."""

    kind: Literal["kde_released"]
    bandwidth: Bandwidth
    """If relative, of the root mean square over all latent numbers."""


class AnchorNoise(Config):
    """A baseline without a model: one anchor's weights plus noise."""

    kind: Literal["anchor_noise"]
    noise: float = Field(gt=0)
    """Standard deviation, as part of that of each layer of the anchor."""


class AnchorAverage(Config):
    """A baseline without a model: the mean of all aligned anchors of one activation, so one sample for each."""

    kind: Literal["anchor_average"]


Sampler = Annotated[KdeJoint | KdeIndependent | KdeReleased | AnchorNoise | AnchorAverage, Field(discriminator="kind")]


class SamplesConfig(Config):
    """One table of samples: generated weights beside every baseline, scored as they are."""

    weights: str
    """Name of a weight data set of this study; aligned, or averages and distances mean little."""
    hyperrep: str
    """Name of the hyper-representation that decodes."""
    embeddings: str
    """Name of its embeddings of the same weight data set."""
    images: str
    """Name of the image set to score on; that of the zoo, unless transfer without training is the question."""
    anchors: AnchorsConfig
    num_samples: int = Field(ge=1)
    """Samples a row; rows of trained members have at most as many, and no member twice. They are shared among
    activations as the anchors are, and stand in random order."""
    samplers: tuple[Sampler, ...]
    """Each makes one row of its own kind."""
    halo: int = Field(ge=0)
    """Tokens of context on each side of a window when decoding; without effect where one window holds the network."""
    candidates: int = Field(ge=1)
    """To how many of the anchors that look nearest a sample is aligned exactly, to find the nearest."""
    seed: int = Field(ge=0)
    """Each row draws from a generator of its own, so that one row more leaves the others alone."""
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""

    @model_validator(mode="after")
    def check_samplers(self) -> "SamplesConfig":
        """Refuse two samplers of one kind: their rows would have one name."""
        kinds = [sampler.kind for sampler in self.samplers]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"each kind of sampler once, got {', '.join(kinds)}")
        return self
