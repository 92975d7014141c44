"""Vision transformer (Dosovitskiy et al., ICLR 2021), from ViT-B/16 down to encoders that train on two CPU cores.

    images (B 3 H W) -> patches + positions -> [class token, patches] -> blocks -> LN -> {patch: "B C H/patch W/patch"}

The table of positions is kept at the size that it was trained at, and interpolated to the picture's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import CheckpointError, ConfigError
from refseg.nn.block import Block, drop_path_rates

__all__ = ["VIT_B16", "ViT", "ViTConfig", "from_timm", "from_transformers", "patch_mask"]


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer; the defaults are ViT-B/16 at 224 pixels (ImageNet-21k)."""

    patch: int = 16
    """P: side of a patch in pixels."""
    width: int = 768
    """Channels of a token."""
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    """Hidden units of the perceptrons."""
    grid: int = 14
    """Rows and columns of the table of positions: 14 for weights of 224 pixels, 24 for 384."""
    class_token: bool = True
    """Whether a token that belongs to no patch goes through the blocks, as in every published ViT."""
    epsilon: float = 1e-6
    """Of the normalisations: 1e-6 in the published ViT, 1e-5 in ReSTR's code."""
    drop_path: float = 0.1
    """Probability of skipping the last block while training; rises linearly from 0 at the first."""

    def __post_init__(self) -> None:
        if min(self.patch, self.layers, self.feedforward, self.grid) < 1:
            raise ConfigError("vision: patch, layers, feedforward and grid are 1 or more")
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"vision.heads={self.heads} does not divide vision.width={self.width}")
        if not 0 <= self.drop_path < 1 or self.epsilon <= 0:
            raise ConfigError("vision: drop_path is a probability below 1, and epsilon positive")


VIT_B16 = ViTConfig()


class ViT(nn.Module):
    """The encoder; a picture that patches do not divide is padded at the right and the bottom."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[int, int] = {config.patch: config.width}
        self.patch_embed = nn.Conv2d(3, config.width, kernel_size=config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width)) if config.class_token else None
        self.positions = nn.Parameter(torch.zeros(1, config.grid**2 + int(config.class_token), config.width))
        """Of the class token, where there is one, and of the patches row by row."""
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.feedforward) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        nn.init.trunc_normal_(self.positions, std=0.02)
        fan_in = 3 * config.patch**2
        nn.init.trunc_normal_(self.patch_embed.weight, std=math.sqrt(1 / fan_in))
        assert self.patch_embed.bias is not None
        nn.init.zeros_(self.patch_embed.bias)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], mask: Bool[Tensor, "B h w"] | None = None
    ) -> dict[int, Float[Tensor, "B _ _ _"]]:
        """The normalised tokens as one map, {patch: "B C h w"}; `mask` is True on patches that tokens may look at."""
        patch = self.config.patch
        images = F.pad(images, (0, -images.shape[3] % patch, 0, -images.shape[2] % patch))
        maps = self.patch_embed(images)
        size = (maps.shape[2], maps.shape[3])
        tokens = maps.flatten(2).transpose(1, 2)
        looked = None if mask is None else mask.flatten(1)[:, None]
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
            looked = None if looked is None else F.pad(looked, (1, 0), value=True)
        tokens = tokens + self._positions_at(size).to(tokens.dtype)
        for block, rate in zip(self.blocks, drop_path_rates(self.config.drop_path, len(self.blocks)), strict=True):
            tokens = block(tokens, looked, rate).tokens
        tokens = self.norm(tokens)
        if self.class_token is not None:
            tokens = tokens[:, 1:]
        return {patch: tokens.transpose(1, 2).unflatten(2, size)}

    def _positions_at(self, size: tuple[int, int]) -> Float[Tensor, "1 T C"]:
        """The table for a picture of so many rows and columns of patches."""
        grid = self.config.grid
        if size == (grid, grid):
            return self.positions
        before, table = self.positions[:, : -(grid**2)], self.positions[:, -(grid**2) :]
        table = table.transpose(1, 2).unflatten(2, (grid, grid))
        table = F.interpolate(table, size=size, mode="bilinear", align_corners=False)
        return torch.cat([before, table.flatten(2).transpose(1, 2)], dim=1)


def patch_mask(pixel_mask: Bool[Tensor, "B H W"], patch: int) -> Bool[Tensor, "B h w"]:
    """True on patches with at least one real pixel."""
    height, width = pixel_mask.shape[1:]
    padded = F.pad(pixel_mask, (0, -width % patch, 0, -height % patch), value=False)
    return padded.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).any(dim=4).any(dim=2)


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ViT under timm's names (`blocks.0.attn.qkv.weight`, `pos_embed`, ...) under ours; the classifier is left out.

    Raises `CheckpointError` with the names that are none of a ViT's.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        if name.startswith(("head.", "pre_logits.")):
            continue
        if name in ("pos_embed", "cls_token"):
            renamed["positions" if name == "pos_embed" else "class_token"] = value
        elif name.startswith("patch_embed.proj."):
            renamed[name.replace("patch_embed.proj.", "patch_embed.")] = value
        elif name.startswith(("blocks.", "norm.")):
            renamed[name] = value
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(f"not a ViT under timm's names; unexplained: {', '.join(unknown[:20])}")
    return renamed


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers' `ViTModel` or `ViTForImageClassification` under our names; queries, keys and values
    become one matrix, pooler and classifier are left out.

    Both the names in files on the hub and those of version 5 in memory are known, and so are timm's. Raises
    `CheckpointError` with the names that are none of a ViT's.
    """
    if "pos_embed" in state:
        return from_timm(state)
    fixed = {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output.dense": "attn.proj",
        "attention.o_proj": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "mlp.fc1": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "mlp.fc2": "mlp.fc2",
    }
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for original, value in state.items():
        name = original.removeprefix("vit.")
        words = name.split(".")
        if words[0] in ("pooler", "classifier"):
            continue
        if name == "embeddings.cls_token":
            renamed["class_token"] = value
        elif name == "embeddings.position_embeddings":
            renamed["positions"] = value
        elif name.startswith("embeddings.patch_embeddings.projection."):
            renamed[f"patch_embed.{words[-1]}"] = value
        elif words[0] == "layernorm":
            renamed[f"norm.{words[-1]}"] = value
        elif words[:2] == ["encoder", "layer"] or words[0] == "layers":
            number, inner = (words[2], words[3:-1]) if words[0] == "encoder" else (words[1], words[2:-1])
            target, part = f"blocks.{number}", ".".join(inner)
            if part in fixed:
                renamed[f"{target}.{fixed[part]}.{words[-1]}"] = value
            elif inner[-1][:1] in "qkv" and inner[0] == "attention":
                parts.setdefault(f"{target}.attn.qkv.{words[-1]}", {})[inner[-1][:1]] = value
            else:
                unknown.append(original)
        else:
            unknown.append(original)
    if unknown:
        raise CheckpointError(f"not a ViT of transformers; unexplained: {', '.join(unknown[:20])}")
    for name, pieces in parts.items():
        if len(pieces) != 3:
            raise CheckpointError(f"{name}: query, key and value are wanted, only {sorted(pieces)} are there")
        renamed[name] = torch.cat([pieces["q"], pieces["k"], pieces["v"]])
    return renamed
