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

from refseg.config import Config, DropRate, PositiveFloat, PositiveInt
from refseg.encoders.vision.block_names import BlockNames
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.block import Block, drop_path_rates
from refseg.types import VisualFeatures

__all__ = ["VIT_B16", "ViT", "ViTConfig", "from_timm", "from_transformers", "patch_mask"]


@dataclass(frozen=True)
class ViTConfig(Config):
    """Sizes of a vision transformer; the defaults are ViT-B/16 at 224 pixels (ImageNet-21k)."""

    patch: PositiveInt = 16
    """P: side of a patch in pixels."""
    width: PositiveInt = 768
    """Channels of a token."""
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    feedforward: PositiveInt = 3072
    """Hidden units of the MLPs."""
    grid: PositiveInt = 14
    """Rows and columns of the table of positions: 14 for weights of 224 pixels, 24 for 384."""
    class_token: bool = True
    """Whether a token that belongs to no patch goes through the blocks, as in every published ViT."""
    epsilon: PositiveFloat = 1e-6
    """Of the normalisations: 1e-6 in the published ViT, 1e-5 in ReSTR's code."""
    drop_path: DropRate = 0.1
    """Probability of skipping the last block while training; rises linearly from 0 at the first."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide the width."""
        if self.width % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide width={self.width}")


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

    def forward(self, images: Float[Tensor, "B 3 H W"], mask: Bool[Tensor, "B h w"] | None = None) -> VisualFeatures:
        """The normalised tokens as one map, {patch: "B C h w"}; `mask` is True on patches that tokens may attend to."""
        patch = self.config.patch
        images = F.pad(images, (0, -images.shape[3] % patch, 0, -images.shape[2] % patch))
        maps = self.patch_embed(images)
        size = (maps.shape[2], maps.shape[3])
        tokens = maps.flatten(2).transpose(1, 2)
        visible = None if mask is None else mask.flatten(1)[:, None]
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
            visible = None if visible is None else F.pad(visible, (1, 0), value=True)
        tokens = tokens + self._positions_at(size).to(tokens.dtype)
        for block, rate in zip(self.blocks, drop_path_rates(self.config.drop_path, len(self.blocks)), strict=True):
            tokens = block(tokens, visible, rate).tokens
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

    Both the names in files on the hub and those of version 5 in memory are known, and so are timm's and our own. Raises
    `CheckpointError` with the names that are none of a ViT's.
    """
    if "patch_embed.weight" in state and "positions" in state:
        return state
    if "pos_embed" in state:
        return from_timm(state)
    names, unknown = BlockNames(), []
    for original, value in state.items():
        words = original.removeprefix("vit.").split(".")
        if words[0] in ("pooler", "classifier"):
            continue
        if words == ["embeddings", "cls_token"]:
            names.renamed["class_token"] = value
        elif words == ["embeddings", "position_embeddings"]:
            names.renamed["positions"] = value
        elif words[:3] == ["embeddings", "patch_embeddings", "projection"]:
            names.renamed[f"patch_embed.{words[-1]}"] = value
        elif words[0] == "layernorm":
            names.renamed[f"norm.{words[-1]}"] = value
        else:
            depth = {"encoder": 2, "layers": 1}.get(words[0], len(words))
            if len(words) <= depth or not names.take(f"blocks.{words[depth]}", ".".join(words[depth + 1 :]), value):
                unknown.append(original)
    if unknown:
        raise CheckpointError(f"not a ViT of transformers; unexplained: {', '.join(unknown[:20])}")
    return names.finish()
