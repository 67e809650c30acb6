"""The token-window autoencoder: tokens to one latent each, and back."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from weightspace.hyperrep.config import ModelConfig, Sizes
from weightspace.hyperrep.dropout import drop
from weightspace.hyperrep.kinds import KINDS, PADDING, WEIGHT
from weightspace.hyperrep.positions import Positions, Waves

LEAST_SIZE = 1e-3
"""Floor of a token's size, in units of the standardised weights."""
STEEPEST = 10.0
"""How finely means near 0 are told apart: a mean enters as asinh of this many times itself."""


def measure_size(
    x: Float[Tensor, "batch tokens d"], chosen: Bool[Tensor, "*batch tokens d"]
) -> Float[Tensor, "batch tokens 1"]:
    """Return the root mean square of the chosen numbers of each token; the floor where none is chosen."""
    count = chosen.sum(-1, keepdim=True).clamp_min(1)
    # The floor before the root: a root of 0 would send back gradients that are no numbers.
    return (x.square().where(chosen, 0).sum(-1, keepdim=True) / count).clamp_min(LEAST_SIZE**2).sqrt()


def measure_moments(
    tokens: Float[Tensor, "batch tokens d_token"], kinds: Int64[Tensor, "*batch tokens d_token"]
) -> Float[Tensor, "batch tokens moments"]:
    """Return mean and size of each token's weights, biases and buffers, each on a scale like the logarithm.

    No order of the inputs of a unit changes them, and those of small networks differ as plainly as those of large ones.
    """
    parts: list[Tensor] = []
    for kind in KINDS:
        chosen = kinds == kind
        mean = tokens.where(chosen, 0).sum(-1, keepdim=True) / chosen.sum(-1, keepdim=True).clamp_min(1)
        parts += [(STEEPEST * mean).asinh(), measure_size(tokens, chosen).log()]
    return torch.cat(parts, dim=-1)


class Block(nn.Module):
    """Pre-norm transformer block: `x + attention(norm(x))`, then `x + mlp(norm(x))`; nothing has a bias."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model, d_feedforward = config.d_model, config.d_feedforward
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.norm_attention = nn.LayerNorm(d_model, bias=False)
        self.query_key_value = nn.Linear(d_model, 3 * d_model, bias=False)
        self.attended = nn.Linear(d_model, d_model, bias=False)
        self.norm_mlp = nn.LayerNorm(d_model, bias=False)
        self.widen = nn.Linear(d_model, d_feedforward, bias=False)
        self.narrow = nn.Linear(d_feedforward, d_model, bias=False)

    def drop(self, x: Float[Tensor, "batch tokens d"]) -> Float[Tensor, "batch tokens d"]:
        """Drop numbers in training."""
        return drop(x, self.dropout, self.training)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        visible: Bool[Tensor, "batch 1 1 tokens"] | None,
        num_wanted: int | None = None,
    ) -> Float[Tensor, "batch wanted d_model"]:
        """Let tokens see each other, then work on each.

        Args:
            visible: which tokens may be looked at; None means all.
            num_wanted: return so many of the first tokens, which see all; None means all.
        """
        normed, num = self.norm_attention(x), x.shape[1] if num_wanted is None else num_wanted
        if num == x.shape[1]:
            queries, others = self.query_key_value(normed).tensor_split((x.shape[-1],), dim=-1)
        else:
            to_query, to_others = self.query_key_value.weight.tensor_split((x.shape[-1],))
            queries, others = F.linear(normed[:, :num], to_query), F.linear(normed, to_others)
        query = queries.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = others.unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
        x = x[:, :num] + self.drop(self.attended(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.narrow(self.drop(F.gelu(self.widen(self.norm_mlp(x))))))


class LayerMaps(nn.Module):
    """One linear map for each layer of the network.

    Without a bias its result scales with its input. All maps are as wide as the widest layer needs; what meets padding
    has no effect.
    """

    def __init__(self, num_layers: int, d_in: int, d_out: int, bias: bool) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(num_layers, d_out, d_in))
        self.biases = nn.Parameter(torch.zeros(num_layers, d_out)) if bias else None

    def forward(
        self, x: Float[Tensor, "batch tokens d_in"], layers: Int64[Tensor, "*batch tokens"]
    ) -> Float[Tensor, "batch tokens d_out"]:
        """Map each token by the matrix of its layer."""
        if layers.ndim == 1:
            # Tokens of a layer lie together: a product for each layer, where one for each token would copy its matrix.
            layer, counts = layers.unique_consecutive(return_counts=True)
            runs = zip(layer.tolist(), x.split(counts.tolist(), dim=1), strict=True)
            mapped = torch.cat([F.linear(run, self.maps[number]) for number, run in runs], dim=1)
        else:
            mapped = torch.einsum("bti,btoi->bto", x, self.maps[layers])
        return mapped if self.biases is None else mapped + self.biases[layers]


class Expansion(nn.Module):
    """The one latent of a network in, what the decoder starts from at each token out."""

    def __init__(self, d_latent: int, d_model: int, num_vectors: int) -> None:
        super().__init__()
        self.num_vectors = num_vectors
        self.map = nn.Linear(d_latent, num_vectors * d_model)

    def forward(self, latents: Float[Tensor, "batch 1 d_latent"]) -> Float[Tensor, "batch vectors d_model"]:
        """Lay one long vector out as one for each token, or as one for all."""
        return self.map(latents).unflatten(-1, (self.num_vectors, -1)).squeeze(1)


class ClassToken(nn.Module):
    """A learned token before all others, which reads them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.empty(d_model))

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch more d_model"]:
        """Put it first."""
        return torch.cat([self.vector.expand(len(x), 1, -1), x], dim=1)


AnyMap = nn.Linear | LayerMaps | Expansion


def build_map(d_in: int, d_out: int, config: ModelConfig, sizes: Sizes) -> nn.Linear | LayerMaps:
    """Build what maps a token into the transformer, or back."""
    if config.embedding == "shared":
        return nn.Linear(d_in, d_out)
    return LayerMaps(sizes.num_positions[1], d_in, d_out, bias=True)


def build_expansion(config: ModelConfig, sizes: Sizes) -> nn.Linear | Expansion:
    """Build what maps latents into the decoder."""
    if config.latent.kind == "tokens":
        return nn.Linear(config.d_latent, config.d_model)
    num_vectors = sizes.num_positions[0] if config.latent.expansion == "linear" else 1
    return Expansion(config.d_latent, config.d_model, num_vectors)


def build_bottleneck(config: ModelConfig, sizes: Sizes) -> nn.Linear | nn.Sequential:
    """Build what maps features to latents."""
    flat = config.latent.kind == "network" and config.latent.compression == "flatten"
    d_in = config.d_model * (sizes.num_positions[0] if flat else 1)
    match config.bottleneck:
        case "linear":
            return nn.Linear(d_in, config.d_latent)
        case "tanh":
            return nn.Sequential(nn.Linear(d_in, config.d_latent), nn.Tanh())
        case "mlp":
            bend = nn.Linear(d_in, config.d_model), nn.GELU()
            return nn.Sequential(*bend, nn.Linear(config.d_model, config.d_latent))


def build_projection(config: ModelConfig) -> nn.Sequential:
    """Build the head that the contrast compares the outputs of.

    Differs: layer norms where the 2021 head has batch norms, so that a network's result depends on no other.
    """
    parts: list[nn.Module] = []
    width = config.d_model if config.latent.kind == "tokens" else config.d_latent
    for hidden in config.projection_widths:
        parts += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU()]
        width = hidden
    return nn.Sequential(*parts, nn.Linear(width, config.d_projection))


def apply_map(
    module: AnyMap, x: Float[Tensor, "batch some d_in"], positions: Int64[Tensor, "*batch tokens 3"]
) -> Float[Tensor, "batch others d_out"]:
    """Map vectors, by the layer of each where the map has one for each layer."""
    return module(x, positions[..., 1]) if isinstance(module, LayerMaps) else module(x)


class Transformer(nn.Module):
    """A map, positions and moments in; blocks; norm."""

    def __init__(
        self, embed: AnyMap, num_moments: int, config: ModelConfig, sizes: Sizes, class_token: bool = False
    ) -> None:
        super().__init__()
        self.embed = embed
        self.positions = Positions(sizes.num_positions, config.d_model, config.positions)
        self.moments = Waves(num_moments, config.d_model) if config.token_scale else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.class_token = ClassToken(config.d_model) if class_token else None

    def forward(
        self,
        x: Float[Tensor, "batch some d_in"],
        moments: Float[Tensor, "batch tokens moments"] | None,
        positions: Int64[Tensor, "*batch tokens 3"],
        present: Bool[Tensor, "*batch tokens"],
        num_wanted: int | None = None,
    ) -> Float[Tensor, "batch wanted d_model"]:
        """Work on each token in view of the others that are present; a class token comes before them.

        Args:
            num_wanted: return so many of the first tokens; None means all.
        """
        x = apply_map(self.embed, x, positions) + self.positions(positions)
        if self.moments is not None and moments is not None:
            x = x + self.moments(moments)
        visible = None if present.all() else present.expand(x.shape[:2])[:, None, None, :]
        if self.class_token is not None:
            x = self.class_token(x)
            visible = None if visible is None else F.pad(visible, (1, 0), value=True)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, visible)
        return self.norm(last(x, visible, num_wanted))


def compress(
    features: Float[Tensor, "batch tokens d_model"],
    present: Bool[Tensor, "*batch tokens"],
    kind: Literal["flatten", "average"],
) -> Float[Tensor, "batch 1 d"]:
    """Turn what is known of each token into one vector for the network; absent tokens count as nothing."""
    present = present.unsqueeze(-1).expand(len(features), -1, 1)
    known = features.where(present, 0)
    if kind == "flatten":
        return known.flatten(1).unsqueeze(1)
    return known.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp_min(1)


class Autoencoder(nn.Module):
    """Encode tokens to latents, decode latents to tokens, project a network for the contrast.

    A network has a latent for each token or a single one, as `config.latent` says; either way latents are of shape
    `[batch, latents, d_latent]`. `kinds` and `positions` say what a window's numbers are; networks of one layout share
    theirs, or each has its own.
    """

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        d_token, d_latent, num_layers = sizes.d_token, config.d_latent, sizes.num_positions[1]
        has_class_token = config.latent.kind == "network" and config.latent.compression == "token"
        embed = build_map(d_token, config.d_model, config, sizes)
        self.encoder = Transformer(embed, 2 * len(KINDS), config, sizes, has_class_token)
        self.to_latent = build_bottleneck(config, sizes)
        self.decoder = Transformer(build_expansion(config, sizes), 1, config, sizes)
        self.to_token = build_map(config.d_model, d_token, config, sizes)
        has_path = config.linear_path != "none"
        self.path_in = LayerMaps(num_layers, d_token, d_latent, bias=False) if has_path else None
        self.path_out = LayerMaps(num_layers, d_latent, d_token, bias=False) if has_path else None
        self.projection = build_projection(config)

    def embed(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
        *,
        all_features: bool = True,
    ) -> tuple[Float[Tensor, "batch latents d_latent"], Float[Tensor, "batch some d_model"]]:
        """Give the latents, and the features of each token that they come from; padding has no effect.

        Args:
            all_features: False leaves out features that no latent comes from, and the work that only they need.
        """
        real = kinds != PADDING
        tokens = tokens.where(real, 0)
        if self.config.latent.kind == "network":
            return self.embed_whole(tokens, positions, real.any(-1), self.config.latent.compression, all_features)
        if not self.config.token_scale:
            features = self.encoder(tokens, None, positions, real.any(-1))
            latents = self.to_latent(features)
        else:
            size = measure_size(tokens, kinds == WEIGHT)
            features = self.encoder(tokens / size, measure_moments(tokens, kinds), positions, real.any(-1))
            latents = self.to_latent(features) * size
        if self.path_in is not None:
            latents = latents + self.path_in(tokens, positions[..., 1])
        return latents, features

    def embed_whole(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
        present: Bool[Tensor, "*batch tokens"],
        compression: Literal["token", "flatten", "average"],
        all_features: bool,
    ) -> tuple[Float[Tensor, "batch 1 d_latent"], Float[Tensor, "batch some d_model"]]:
        """Give each network its one latent, and the features of its tokens."""
        num_wanted = 1 if compression == "token" and not all_features else None
        features = self.encoder(tokens, None, positions, present, num_wanted)
        if compression == "token":
            return self.to_latent(features[:, :1]), features[:, 1:]
        return self.to_latent(compress(features, present, compression)), features

    def encode(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch latents d_latent"]:
        """Give the latents; as `embed`."""
        return self.embed(tokens, kinds, positions, all_features=False)[0]

    def decode(
        self,
        latents: Float[Tensor, "batch latents d_latent"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch tokens d_token"]:
        """Give the tokens back; zero in padding."""
        real = kinds != PADDING
        if not self.config.token_scale:
            tokens = apply_map(self.to_token, self.decoder(latents, None, positions, real.any(-1)), positions)
        else:
            size = measure_size(latents, torch.ones_like(latents, dtype=torch.bool))
            features = self.decoder(latents / size, size.log(), positions, real.any(-1))
            tokens = apply_map(self.to_token, features, positions) * size
        if self.path_out is not None:
            tokens = tokens + self.path_out(latents, positions[..., 1])
        return tokens.where(real, 0)

    def project(
        self, latents: Float[Tensor, "batch latents d_latent"], features: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch d_projection"]:
        """Turn the latent of a network, or the features of a window of any length, into what the contrast compares.

        Differs: SANE's released head flattens the window's latents, which ties it to one length.
        """
        return self.projection(latents[:, 0] if self.config.latent.kind == "network" else features.mean(1))


def initialize_parameters(model: Autoencoder, generator: torch.Generator) -> None:
    """Draw linear maps from N(0, 0.02) and zero their biases; what adds to the residual stream starts smaller.

    Source: SANE's released code (models/def_transformer.py), after GPT-2; the class token from N(0, 1) as in the 2021
    code.
    """
    num_residuals = 2 * model.config.num_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            smaller = name.endswith(("attended", "narrow"))
            module.weight.data.normal_(0, 0.02 / math.sqrt(num_residuals) if smaller else 0.02, generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, LayerMaps):
            size = module.maps.shape[-1] ** -0.5 if module.biases is None else 0.02
            module.maps.data.normal_(0, size, generator=generator)
        elif isinstance(module, ClassToken):
            module.vector.data.normal_(generator=generator)
        elif isinstance(module, Waves):
            module.draw(generator)
