"""The token-window autoencoder: tokens to one latent each, and back."""

import math

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor, nn
from torch.nn import functional as F

from weightspace.hyperrep.config import ModelConfig, Sizes
from weightspace.hyperrep.positions import Positions

MIN_SCALE = 1e-6
"""Floor of a token's size, which keeps an all-zero token from becoming not-a-number."""


def measure_scale(x: Float[Tensor, "*tokens d"], count: Real[Tensor, "*#count 1"]) -> Float[Tensor, "*tokens 1"]:
    """Return the root mean square of each token's numbers.

    Args:
        count: how many of them are real; the others are zero.
    """
    return (x.square().sum(-1, keepdim=True) / count).sqrt().clamp_min(MIN_SCALE)


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
        self, x: Float[Tensor, "batch tokens d_model"], visible: Bool[Tensor, "#batch 1 1 tokens"] | None
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
    """Linear map in, positions, blocks, norm, linear map out."""

    def __init__(self, d_in: int, d_out: int, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.embed = nn.Linear(d_in, config.d_model)
        self.embed_scale = nn.Linear(1, config.d_model, bias=False) if config.token_scale else None
        self.positions = Positions(sizes.num_positions, config.d_model, config.positions)
        self.blocks = nn.ModuleList(Block(config.d_model, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, d_out)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_in"],
        log_scale: Float[Tensor, "batch tokens 1"] | None,
        positions: Int64[Tensor, "*batch tokens 3"],
        present: Bool[Tensor, "*batch tokens"],
    ) -> Float[Tensor, "batch tokens d_out"]:
        """Map each token, in view of the others that are present."""
        x = self.embed(x) + self.positions(positions)
        if self.embed_scale is not None:
            x = x + self.embed_scale(log_scale)
        tokens = x.shape[1]
        visible = None if present.all() else present.expand(len(x), tokens)[:, None, None, :]
        for block in self.blocks:
            x = block(x, visible)
        return self.out(self.norm(x))


class LinearPath(nn.Module):
    """One linear map for each layer of the network, without a bias, so that its result scales with its input."""

    def __init__(self, num_layers: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(num_layers, d_out, d_in))

    def forward(
        self, x: Float[Tensor, "batch tokens d_in"], layers: Int64[Tensor, "*batch tokens"]
    ) -> Float[Tensor, "batch tokens d_out"]:
        """Map each token by its layer's matrix."""
        rule = "btd,tod->bto" if layers.ndim == 1 else "btd,btod->bto"
        return torch.einsum(rule, x, self.maps[layers])


class Autoencoder(nn.Module):
    """Encode tokens to latents, decode latents to tokens, project a network's latents for the contrast."""

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        d_token, d_latent, num_layers = sizes.d_token, config.d_latent, sizes.num_positions[1]
        self.encoder = Transformer(d_token, d_latent, config, sizes)
        self.decoder = Transformer(d_latent, d_token, config, sizes)
        has_path = config.linear_path != "none"
        self.path_in = LinearPath(num_layers, d_token, d_latent) if has_path else None
        self.path_out = LinearPath(num_layers, d_latent, d_token) if has_path else None
        self.projection = nn.Sequential(
            nn.Linear(2 * d_latent, config.d_model),
            nn.LayerNorm(config.d_model),
            nn.GELU(),
            nn.Linear(config.d_model, config.d_projection),
        )

    def encode(
        self,
        tokens: Float[Tensor, "batch tokens d_token"],
        mask: Bool[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch tokens d_latent"]:
        """Give each token its latent; what stands where the mask is False has no effect."""
        tokens = tokens.where(mask, 0)
        scale = None
        if self.config.token_scale:
            scale = measure_scale(tokens, mask.sum(-1, keepdim=True).clamp_min(1))
            tokens = tokens / scale
        latents = self.encoder(tokens, None if scale is None else scale.log(), positions, mask.any(-1))
        if self.path_in is not None:
            latents = latents + self.path_in(tokens, positions[..., 1])
        return latents if scale is None else latents * scale

    def decode(
        self,
        latents: Float[Tensor, "batch tokens d_latent"],
        mask: Bool[Tensor, "*batch tokens d_token"],
        positions: Int64[Tensor, "*batch tokens 3"],
    ) -> Float[Tensor, "batch tokens d_token"]:
        """Give each latent its token; zero where the mask is False."""
        scale = None
        if self.config.token_scale:
            scale = measure_scale(latents, torch.full_like(latents[..., :1], self.config.d_latent))
            latents = latents / scale
        tokens = self.decoder(latents, None if scale is None else scale.log(), positions, mask.any(-1))
        if self.path_out is not None:
            tokens = tokens + self.path_out(latents, positions[..., 1])
        tokens = tokens if scale is None else tokens * scale
        return tokens.where(mask, 0)

    def project(self, latents: Float[Tensor, "batch tokens d_latent"]) -> Float[Tensor, "batch d_projection"]:
        """Compare-ready vector of a window of any length: mean and spread of its latents through a small network.

        Differs: the released head flattens the window, which ties it to one length.
        """
        pooled = torch.cat([latents.mean(1), latents.std(1, correction=0)], dim=-1)
        return self.projection(pooled)


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
