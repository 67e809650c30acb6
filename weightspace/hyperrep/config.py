"""Say how a hyper-representation looks and how it learns."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from weightspace.config import Config
from weightspace.tokens.config import TokensConfig
from weightspace.weights.config import EpochList, EpochRange


class ModelConfig(Config):
    """Sizes and parts of the autoencoder."""

    d_model: int = Field(ge=4, multiple_of=4)
    """Width of the transformer; a multiple of `num_heads` too."""
    num_heads: PositiveInt
    num_layers: PositiveInt
    """Transformer blocks of the encoder; the decoder has as many."""
    d_latent: PositiveInt
    """Latent numbers of a token. `num_tokens * d_latent` numbers stand for a network."""
    d_projection: PositiveInt
    """Outputs of the projection head that the contrast compares."""
    positions: Literal["learned", "sinusoidal"]
    """`learned` starts from the sinusoids and falls back to them beyond the positions it learned from."""
    linear_path: Literal["none", "random", "principal"]
    """A linear map from token to latent and back, one for each layer of the network, beside the transformer.

    `none` is the published model. `principal` starts at the principal directions of the tokens to learn from, and the
    transformer's part starts at zero."""
    token_scale: bool
    """Divide each token by its own size before the encoder and multiply the latent by it, likewise in the decoder, so
    that small weights are represented as finely as large ones; and tell the encoder mean and size of each token's
    weights and of its biases."""


class ViewsConfig(Config):
    """What the two views of a network are; the first is never permuted."""

    permute: bool
    """The second view has its hidden units in another order, drawn anew each time."""
    noise: float = Field(ge=0)
    """Standard deviation of the noise on both views' inputs, as a share of each number; the target has none."""
    erase: float = Field(ge=0, le=1)
    """Probability that a view's input has a block of zeros; the target has none."""


Normalization = Literal["none", "batch", "window", "layer", "tensor", "token"]


class LossConfig(Config):
    """What training minimises: `(1 - contrast_weight) * reconstruction + contrast_weight * contrast`."""

    contrast_weight: float = Field(ge=0, le=1)
    """Share of the contrast between the two views (gamma in the papers)."""
    temperature: float = Field(gt=0)
    """Divides the cosine of two projections."""
    normalization: Normalization
    """What a squared error is divided by: the mean square of the real numbers of the batch, of the network's window,
    of its layer or tensor (a layer's weights apart from its biases) within the window, or of the token. With `layer`
    and `tensor` each network counts by its own scale, whatever its init."""
    balance: Literal["numbers", "groups"]
    """What counts the same: each number, or each group of numbers that is normalised together."""


class TrainingConfig(Config):
    """How long and how fast to learn."""

    epochs: Annotated[EpochRange | EpochList, Field(discriminator="kind")]
    """Epochs of the zoo whose checkpoints to learn from."""
    steps: PositiveInt
    """Optimizer steps of the whole schedule."""
    batch_size: PositiveInt
    """Networks in a step, of as many members; each gives two views."""
    lr: float = Field(gt=0)
    """Peak of the one-cycle schedule."""
    warmup: float = Field(gt=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(ge=0)
    """AdamW's, on tensors with two or more axes."""
    clip: float = Field(gt=0)
    """Largest norm of the gradient."""
    validate_every: PositiveInt
    """Steps between two looks at the validation members; what a crash loses is no more."""
    validation_rows: PositiveInt
    """Checkpoints of validation members that are looked at, drawn once; all if there are fewer."""
    patience: PositiveInt
    """Stop after this many validations in a row without a better one."""
    seed: int = Field(ge=0)
    """Decides initial parameters, order, windows and views."""


class HyperrepConfig(Config):
    """One hyper-representation: what it learns from, what it is, how it learns."""

    weights: str
    """Name of a weight data set of this study."""
    tokens: TokensConfig
    window: Literal["whole"] | PositiveInt
    """Tokens the model sees at once while it learns; `whole` is the sequence of the layout it learns from."""
    model: ModelConfig
    views: ViewsConfig
    loss: LossConfig
    training: TrainingConfig
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""


class Sizes(Config):
    """What the layout that a model learned from fixes beyond its configuration."""

    d_token: PositiveInt
    window: PositiveInt
    num_positions: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Tokens, layers, and tokens of the longest layer."""
