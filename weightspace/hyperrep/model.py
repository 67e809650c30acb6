"""The token-window autoencoder: tokens to one latent each, and back."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from weightspace.hyperrep.config import ModelConfig, Sizes
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
    return (x.square().where(chosen, 0).sum(-1, keepdim=True) / count).sqrt().clamp_min(LEAST_SIZE)


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

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(d_model, bias=False)
        self.query_key_value = nn.Linear(d_model, 3 * d_model, bias=False)
        self.attended = nn.Linear(d_model, d_model, bias=False)
        self.norm_mlp = nn.LayerNorm(d_model, bias=False)
        self.widen = nn.Linear(d_model, 4 * d_model, bias=False)
        self.narrow = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], visible: Bool[Tensor, "batch 1 1 tokens"] | None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """Let tokens see each other, then work on each.

        Args:
            visible: which tokens may be looked at; None means all.
        """
        heads = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + self.attended(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.widen(self.norm_mlp(x))))


class Transformer(nn.Module):
    """Linear map, positions and moments in; blocks; norm."""

    def __init__(self, d_in: int, num_moments: int, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.embed = nn.Linear(d_in, config.d_model)
        self.positions = Positions(sizes.num_positions, config.d_model, config.positions)
        self.moments = Waves(num_moments, config.d_model) if config.token_scale else None
        self.blocks = nn.ModuleList(Block(config.d_model, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.d_model, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_in"],
        moments: Float[Tensor, "batch tokens moments"] | None,
        positions: Int64[Tensor, "*batch tokens 3"],
        present: Bool[Tensor, "*batch tokens"],
    ) -> Float[Tensor, "batch tokens d_model"]:
        """Work on each token in view of the others that are present."""
        x = self.embed(x) + self.positions(positions)
        if self.moments is not None and moments is not None:
            x = x + self.moments(moments)
        visible = None if present.all() else present.expand(x.shape[:2])[:, None, None, :]
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)


class LinearPath(nn.Module):
    """One linear map for each layer of the network, without a bias, so that its result scales with its input."""

    def __init__(self, num_layers: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(num_layers, d_out, d_in))

    def forward(
        self, x: Float[Tensor, "batch tokens d_in"], layers: Int64[Tensor, "*batch tokens"]
    ) -> Float[Tensor, "batch tokens d_out"]:
        """Map each token by the matrix of its layer."""
        if layers.ndim == 1:
            return torch.bmm(x.transpose(0, 1), self.maps[layers].transpose(1, 2)).transpose(0, 1)
        return torch.einsum("bti,btoi->bto", x, self.maps[layers])


class Autoencoder(nn.Module):
    """Encode tokens to latents, decode latents to tokens, project a network's features for the contrast.

    `kinds` and `positions` say what a window's numbers are; networks of one layout share theirs, or each has its own.
    """

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        d_token, d_latent, num_layers = sizes.d_token, config.d_latent, sizes.num_positions[1]
        self.encoder = Transformer(d_token, 2 * len(KINDS), config, sizes)
        self.to_latent = nn.Linear(config.d_model, d_latent)
        self.decoder = Transformer(d_latent, 1, config, sizes)
        self.to_token = nn.Linear(config.d_model, d_token)
        has_path = config.linear_path != "none"
        self.path_in = LinearPath(num_layers, d_token, d_latent) if has_path else None
        self.path_out = LinearPath(num_layers, d_latent, d_token) if has_path else None
        self.projection = nn.Sequential(
            nn.Linear(config.d_model, config.d_model),
            nn.LayerNorm(config.d_model),
            nn.GELU(),
            nn.Linear(config.d_model, config.d_projection),
        )

    def embed(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> tuple[Float[Tensor, "batch tokens d_latent"], Float[Tensor, "batch tokens d_model"]]:
        """Give each token its latent, and the features it comes from; what stands in padding has no effect."""
        real = kinds != PADDING
        tokens = tokens.where(real, 0)
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

    def encode(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch tokens d_latent"]:
        """Give each token its latent; as `embed`."""
        return self.embed(tokens, kinds, positions)[0]

    def decode(
        self,
        latents: Float[Tensor, "batch tokens d_latent"],
        kinds: Int64[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch tokens d_token"]:
        """Give each latent its token; zero in padding."""
        real = kinds != PADDING
        if not self.config.token_scale:
            tokens = self.to_token(self.decoder(latents, None, positions, real.any(-1)))
        else:
            size = measure_size(latents, torch.ones_like(latents, dtype=torch.bool))
            tokens = self.to_token(self.decoder(latents / size, size.log(), positions, real.any(-1))) * size
        if self.path_out is not None:
            tokens = tokens + self.path_out(latents, positions[..., 1])
        return tokens.where(real, 0)

    def project(self, features: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch d_projection"]:
        """Turn the features of a window of any length into what the contrast compares.

        Differs: the released head flattens the window's latents, which ties it to one length.
        """
        return self.projection(features.mean(1))


def initialize_parameters(model: Autoencoder, generator: torch.Generator) -> None:
    """Draw linear maps from N(0, 0.02) and zero their biases; what adds to the residual stream starts smaller.

    Source: SANE's released code (models/def_transformer.py), after GPT-2.
    """
    num_residuals = 2 * model.config.num_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            smaller = name.endswith(("attended", "narrow"))
            module.weight.data.normal_(0, 0.02 / math.sqrt(num_residuals) if smaller else 0.02, generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, LinearPath):
            module.maps.data.normal_(0, module.maps.shape[-1] ** -0.5, generator=generator)
        elif isinstance(module, Waves):
            module.draw(generator)
