"""Say how a hyper-representation looks and how it learns."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from weightspace.config import Config
from weightspace.tokens.config import TokensConfig
from weightspace.weights.config import EpochList, EpochRange

NO_IMAGES = "."
"""Stands for no image set, where a graph of stages cannot leave an input out."""


class TokenLatents(Config):
    """Each token has a latent of its own."""

    kind: Literal["tokens"]


class NetworkLatent(Config):
    """The whole network has one latent; `linear_path` and `token_scale` go with tokens only."""

    kind: Literal["network"]
    compression: Literal["token", "flatten", "average"]
    """Where the bottleneck reads: a learned token that sees all others (2021's default), all tokens side by side
    (2022's), or their mean."""
    expansion: Literal["linear", "repeat"]
    """What the decoder starts from: a vector for each token by one linear map, or the same for all."""


class ModelConfig(Config):
    """Sizes and parts of the autoencoder."""

    d_model: int = Field(ge=4, multiple_of=4)
    """Width of the transformer; a multiple of `num_heads` too."""
    num_heads: PositiveInt
    num_layers: PositiveInt
    """Transformer blocks of the encoder; the decoder has as many."""
    d_feedforward: PositiveInt
    """Hidden width of a block's two linear maps."""
    dropout: float = Field(ge=0, lt=1)
    """Probability that a number is dropped in training, after attention, in it and in a block's linear maps."""
    embedding: Literal["shared", "layer"]
    """Linear map from token to transformer and back: one for all, or one for each layer of the network."""
    latent: Annotated[TokenLatents | NetworkLatent, Field(discriminator="kind")]
    d_latent: PositiveInt
    """Latent numbers of a token, or of a network that has one latent."""
    bottleneck: Literal["linear", "tanh", "mlp"]
    """What makes the latent: a linear map, one whose results are held between -1 and 1, or two with a bend between."""
    projection_widths: tuple[PositiveInt, ...]
    """Hidden widths of the projection head."""
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

    @model_validator(mode="after")
    def check_paths(self) -> "ModelConfig":
        """Refuse what goes beside the transformer where there is nothing for it to go by."""
        if self.linear_path == "none" and not self.token_scale:
            return self
        if self.latent.kind != "tokens" or self.bottleneck != "linear":
            raise ValueError(
                f"linear_path {self.linear_path!r}, token_scale {self.token_scale} with latent.kind "
                f"{self.latent.kind!r}, bottleneck {self.bottleneck!r}; both need 'tokens' and 'linear'"
            )
        return self


class ViewsConfig(Config):
    """What the two views of a network are."""

    permute: Literal["none", "second", "both"]
    """Which views have their hidden units in another order, drawn anew each time. `none`, both views canonical, is
    what SANE's released scripts train with by mistake; 2021 permuted both."""
    noise: float = Field(ge=0)
    """Standard deviation of the noise on both views' inputs, as a share of each number."""
    erase: float = Field(ge=0, le=1)
    """Probability that a view's input has a block of zeros."""
    target: Literal["clean", "seen"]
    """What is to be reconstructed: the view without noise and gaps, or the input as it is, which denoises nothing and
    is what all released code before 2025 does."""


Normalization = Literal["none", "batch", "window", "layer", "tensor", "token", "spread"]


class NoBehaviour(Config):
    """Compare weights only."""

    kind: Literal["none"]


class BehaviourConfig(Config):
    """What every comparison of outputs shares.

    Reconstructed networks and their originals run on training images of `HyperrepConfig.images`, drawn anew each step.
    """

    weight: float = Field(gt=0, le=1)
    """Share of the outputs in what is not contrast (1 - beta in the paper); the weights have the rest."""
    num_networks: PositiveInt
    """First views of a step that are run, as they are reconstructed; all if there are fewer."""
    num_images: PositiveInt
    """Training images of a step, the same for all its networks; all if there are fewer."""


class SoftmaxBehaviour(BehaviourConfig):
    """Mean squared difference of the classes' probabilities, as published."""

    kind: Literal["softmax"]


class CrossEntropyBehaviour(BehaviourConfig):
    """Cross-entropy of the reconstructed network to the class that the original finds most likely."""

    kind: Literal["cross_entropy"]


class DistillationBehaviour(BehaviourConfig):
    """Kullback-Leibler divergence from the original's probabilities to the reconstructed network's, both softened."""

    kind: Literal["distillation"]
    temperature: float = Field(gt=0)
    """Divides the logits; the divergence is multiplied by its square. 2 in the paper."""


AnyBehaviour = NoBehaviour | SoftmaxBehaviour | CrossEntropyBehaviour | DistillationBehaviour
Term = Literal["loss", "reconstruction", "contrast", "behaviour"]


class LossConfig(Config):
    """What training minimises, of terms of a step each divided as `scale` says.

    `contrast_weight * contrast + (1 - contrast_weight) * ((1 - b) * reconstruction + b * behaviour)`, b being
    `behaviour.weight`, or 0 where behaviour is `none`.
    """

    contrast_weight: float = Field(ge=0, le=1)
    """Share of the contrast between the two views (gamma in the papers)."""
    contrast: Literal["nt_xent", "positive", "released"]
    """`nt_xent` tells a network's other view from other networks; `positive` brings both views together, with nothing
    to keep networks apart; `released` is the positive-only loss of the 2021 code, which by a wrong target drives the
    two views to a right angle."""
    temperature: float = Field(gt=0)
    """Divides the cosine of two projections, except in `positive`."""
    normalization: Normalization
    """What a squared error is divided by: the mean square of the real numbers of the batch, of the network's window,
    of its layer or tensor (a layer's weights apart from its biases) within the window, or of the token. With `layer`
    and `tensor` each network counts by its own scale, whatever its init. `spread` divides by the variance of the
    layer's numbers over all train networks, as 2022 did."""
    balance: Literal["numbers", "groups"]
    """What counts the same: each number, or each group of numbers that is normalised together."""
    padding: Literal["left_out", "counted"]
    """Whether padding counts among the numbers that errors are averaged over; counted, as in SANE's released code,
    windows of short tokens weigh less."""
    behaviour: Annotated[AnyBehaviour, Field(discriminator="kind")]
    """Comparison of what networks do; needs `images` and the window `whole`."""
    scale: Literal["none", "first_step"]
    """What each term is divided by before the terms are weighted: nothing, or its value at the first step."""

    @property
    def shares(self) -> dict[str, float]:
        """Weigh each term that is measured.

        Source: Structure Is Not Enough (arXiv 2503.17138), with 1 - beta as `behaviour.weight`; without behaviour
        Schürholt et al. 2021 (arXiv 2110.15288).
        """
        weights = {"reconstruction": 1 - self.contrast_weight, "contrast": self.contrast_weight}
        if isinstance(self.behaviour, NoBehaviour):
            return weights
        rest, outputs = weights["reconstruction"], self.behaviour.weight
        return weights | {"reconstruction": rest * (1 - outputs), "behaviour": rest * outputs}


class ProportionalSampling(Config):
    """A zoo is drawn as often as its number of train members says: every member is as likely."""

    kind: Literal["proportional"]


class UniformSampling(Config):
    """All zoos are drawn as often."""

    kind: Literal["uniform"]


class WeightedSampling(Config):
    """Zoos are drawn in proportion to weights."""

    kind: Literal["weights"]
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(min_length=1)
    """One for each zoo by its name; where the weight data set has no column `zoo`, for each layout by its name, and
    `<zoo>.<layout>` where a zoo has several layouts. One of weight 0 is looked at on validation members only."""

    @model_validator(mode="after")
    def check_sum(self) -> "WeightedSampling":
        """Refuse weights by which nothing is drawn."""
        if not sum(self.weights.values()):
            raise ValueError("weights are all 0, wanted at least one above")
        return self


SamplingConfig = ProportionalSampling | UniformSampling | WeightedSampling


class TrainingConfig(Config):
    """How long and how fast to learn."""

    epochs: Annotated[EpochRange | EpochList, Field(discriminator="kind")]
    """Epochs of the zoo whose checkpoints to learn from."""
    sampling: Annotated[SamplingConfig, Field(discriminator="kind")]
    """How often networks of each zoo are drawn, where the weight data set has several. All networks of a step have one
    layout, drawn anew each step."""
    steps: PositiveInt
    """Optimizer steps of the whole schedule."""
    batch_size: PositiveInt | Literal["auto"]
    """Networks in a step, of as many members; each gives two views. `auto` finds the largest power of two that fits
    the memory; see `batch_size.py`."""
    lr: float = Field(gt=0)
    """Peak of the schedule."""
    schedule: Literal["one_cycle", "cosine"]
    """`one_cycle` rises and falls along cosines, from a 25th of the peak to next to nothing; `cosine` rises along a
    line from 0, and falls to 0."""
    warmup: float = Field(ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(ge=0)
    """AdamW's, on tensors with two or more axes."""
    clip: float = Field(gt=0)
    """Largest norm of the gradient."""
    validate_every: PositiveInt
    """Steps between two looks at the validation members; what a crash loses is no more."""
    validation_rows: PositiveInt
    """Checkpoints of validation members that are looked at, drawn once, of each zoo; all if there are fewer."""
    keep_best: Term
    """The term whose value on validation members says which model is kept; one that has a share in the loss."""
    patience: PositiveInt
    """Stop after this many validations in a row without a better one."""
    seed: int = Field(ge=0)
    """Decides initial parameters, order, windows and views."""
    precision: Literal["float32", "bfloat16"]
    """Of matrix products while learning; parameters, losses and validation stay float32. `bfloat16` is for GPUs."""
    compile: bool
    """Compile the transformer's blocks with torch.compile, which takes a while at the start."""
    processes: PositiveInt
    """Processes that share each batch, one a CUDA device, or on the CPU; without dropout, results change by rounding
    only."""

    @property
    def num_networks(self) -> int:
        """Say how many networks a step has, once that is settled."""
        assert self.batch_size != "auto", "settle_batch_size comes first"
        return self.batch_size


class HyperrepConfig(Config):
    """One hyper-representation: what it learns from, what it is, how it learns."""

    weights: str
    """Name of a weight data set of this study."""
    images: str
    """Name of the image set of this study that the networks of the weight data set were trained on; a loss on behaviour
    runs them on it. `.` where none is at hand: DVC then looks at all image sets for a change."""
    tokens: TokensConfig
    window: Literal["whole"] | PositiveInt
    """Tokens the model sees at once while it learns; `whole` is the sequence of the layout it learns from. Of several
    layouts, networks with fewer tokens are seen whole."""
    model: ModelConfig
    views: ViewsConfig
    loss: LossConfig
    training: TrainingConfig
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:n`."""

    @model_validator(mode="after")
    def check_parts(self) -> "HyperrepConfig":
        """Refuse parts of networks where whole ones are needed, and a comparison of outputs without images."""
        runs = self.loss.behaviour.kind != "none"
        if runs and self.images == NO_IMAGES:
            raise ValueError(
                f"images {self.images!r} with loss.behaviour {self.loss.behaviour.kind!r}; wanted the image set that "
                "the networks were trained on"
            )
        if runs and self.window != "whole":
            raise ValueError(f"window {self.window} with loss.behaviour; wanted 'whole', as a part cannot be run")
        if self.model.latent.kind == "network" and self.window != "whole":
            raise ValueError(f"window {self.window} with one latent for the network; wanted 'whole'")
        return self

    @model_validator(mode="after")
    def check_choice(self) -> "HyperrepConfig":
        """Refuse to choose the model that is kept by a term that nothing was learned from."""
        learned = ("loss", *(term for term, share in self.loss.shares.items() if share))
        if self.training.keep_best not in learned:
            raise ValueError(f"training.keep_best {self.training.keep_best!r}; wanted one of {', '.join(learned)}")
        return self


class Sizes(Config):
    """What the layouts that a model learned from fix beyond its configuration: of several, the largest of each."""

    d_token: PositiveInt
    window: PositiveInt
    num_positions: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Tokens, layers, and tokens of the longest layer."""
