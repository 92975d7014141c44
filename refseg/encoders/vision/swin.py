"""Swin transformer (Liu et al., ICCV 2021) with a place for language after every stage.

    images (B 3 H W) -> patches (1/4) -> stage 0 -> merge (1/8) -> stage 1 -> merge (1/16) -> stage 2 -> merge
    (1/32) -> stage 3

`after_stage(i, tokens, (h, w))` sees stage i's tokens and returns (what goes out as the map of that stage, what goes
on into the next one): language-aware encoders fuse there (LAVT, ReLA). Without it both are the tokens themselves.
Every outgoing map passes its own layer normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, DropRate, PositiveFloat, PositiveInt
from refseg.encoders.vision.block_names import BlockNames
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.block import Mlp, drop_path_rates, skip_rows
from refseg.nn.pixel_word import AfterStage
from refseg.nn.window import WindowAttention, WindowLayout, window_layout
from refseg.types import VisualFeatures

__all__ = ["SWIN_B", "SWIN_T", "Swin", "SwinConfig", "from_transformers"]

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class SwinConfig(Config):
    """Sizes of a Swin transformer; the defaults are Swin-B with windows of 12 (ImageNet-22k at 384 pixels)."""

    embed_dim: PositiveInt = 128
    """Channels of stage 0; every stage doubles them."""
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 18, 2)
    """Blocks in each stage; odd ones are shifted."""
    heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (4, 8, 16, 32)
    """Attention heads in each stage."""
    window: Annotated[int, Ge(2)] = 12
    """Side of a window in tokens; odd blocks shift by half of it, rounded down."""
    mlp_ratio: PositiveFloat = 4.0
    """Hidden units of a block's MLP, as a multiple of its channels."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    drop_path: DropRate = 0.3
    """Probability of skipping the last block while training; rises linearly from 0 at the first."""

    def check(self) -> None:
        """Raises `ConfigError` for heads that do not divide their stage's channels."""
        check_heads(self.embed_dim, self.heads)


def check_heads(embed_dim: int, heads: tuple[int, ...]) -> None:
    """Raises `ConfigError` for heads that do not divide the channels of their stage, `embed_dim` of the first."""
    for stage, number in enumerate(heads):
        if (embed_dim << stage) % number:
            raise ConfigError(f"heads[{stage}]={number} does not divide the stage's {embed_dim << stage} channels")


SWIN_B = SwinConfig()
SWIN_T = SwinConfig(embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7)


class PatchEmbed(nn.Module):
    """Patches of 4x4 pixels to normalised tokens; the picture is padded to whole patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B T C"], tuple[int, int]]:
        """Tokens in reading order, and the (rows, columns) they fill."""
        height, width = images.shape[-2:]
        if height % 4 or width % 4:
            images = F.pad(images, (0, -width % 4, 0, -height % 4))
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        maps = self.proj(images)
        return self.norm(maps.flatten(2).transpose(1, 2)), (maps.shape[2], maps.shape[3])


class PatchMerging(nn.Module):
    """Four neighbours to one token of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "B T C"], size: tuple[int, int]
    ) -> tuple[Float[Tensor, "B S D"], tuple[int, int]]:
        """Tokens of half the height and width (rounded up), and that size. Neighbours are stacked column by column."""
        pictures, _, channels = tokens.shape
        height, width = size
        grid = tokens.view(pictures, height, width, channels)
        if height % 2 or width % 2:
            grid = F.pad(grid, (0, 0, 0, width % 2, 0, height % 2))
        height, width = -(-height // 2), -(-width // 2)
        grid = grid.view(pictures, height, 2, width, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(grid.reshape(pictures, height * width, 4 * channels))), (height, width)


class SwinBlock(nn.Module):
    """Attention in windows, then the MLP; both pre-normalised and residual.

    `window` are the sides of a window, by axis; a shifted block's are moved by half of each, rounded down.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: tuple[int, ...],
        shifted: bool,
        *,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.shift = tuple(side // 2 if shifted else 0 for side in window)
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, tokens: Float[Tensor, "B T C"], layout: WindowLayout) -> Float[Tensor, "B T C"]:
        """One block; `layout` must be that of this block's shift."""
        tokens = tokens + skip_rows(self.attn(self.norm1(tokens), layout), self.drop_path, self.training)
        return tokens + skip_rows(self.mlp(self.norm2(tokens)), self.drop_path, self.training)


class Stage(nn.Module):
    """The blocks of one resolution, and the merging that leads to the next."""

    def __init__(self, config: SwinConfig, index: int, rates: list[float]) -> None:
        super().__init__()
        width = config.embed_dim << index
        self.window = config.window
        sides = (config.window, config.window)
        self.blocks = nn.ModuleList(
            SwinBlock(
                width,
                config.heads[index],
                sides,
                number % 2 == 1,
                mlp_ratio=config.mlp_ratio,
                qkv_bias=config.qkv_bias,
                drop_path=rate,
            )
            for number, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(width) if index < 3 else None

    def forward(self, tokens: Float[Tensor, "B T C"], size: tuple[int, int]) -> Float[Tensor, "B T C"]:
        """All blocks, without the merging."""
        for block in self.blocks:
            assert isinstance(block, SwinBlock)
            layout = window_layout(size, block.attn.window, block.shift, block.attn.heads, tokens.device)
            tokens = block(tokens, layout)
        return tokens


class Swin(nn.Module):
    """The encoder; any picture size, padded where patches, windows or merging want it."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[int, int] = {stride: config.embed_dim << i for i, stride in enumerate(STRIDES)}
        self.patch_embed = PatchEmbed(config.embed_dim)
        rates = drop_path_rates(config.drop_path, sum(config.depths))
        stages = []
        for index, depth in enumerate(config.depths):
            stages.append(Stage(config, index, rates[:depth]))
            rates = rates[depth:]
        self.layers = nn.ModuleList(stages)
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in self.channels.values())

    def forward(self, images: Float[Tensor, "B 3 H W"], after_stage: AfterStage | None = None) -> VisualFeatures:
        """Normalised feature maps by stride: {4: "B C H/4 W/4", 8: "B 2C ...", 16: ..., 32: ...}."""
        tokens, size = self.patch_embed(images)
        features = {}
        norms = (self.norm0, self.norm1, self.norm2, self.norm3)
        for index, (stride, stage, norm) in enumerate(zip(STRIDES, self.layers, norms, strict=True)):
            assert isinstance(stage, Stage)
            tokens = stage(tokens, size)
            outgoing = tokens
            if after_stage is not None:
                outgoing, tokens = after_stage(index, tokens, size)
            features[stride] = norm(outgoing).transpose(1, 2).unflatten(2, size)
            if stage.downsample is not None:
                tokens, size = stage.downsample(tokens, size)
        return features


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of transformers' `SwinModel` or `SwinForImageClassification` under ours.

    Both the names in files on the hub and those of version 5 in memory are known. The final normalisation, the
    classifier and index buffers are left out; our `norm0` to `norm3` are not in such files. Queries, keys and values
    become one matrix. Weights under our names stay as they are. Raises `CheckpointError` with the names that are none
    of a Swin's.
    """
    if "patch_embed.proj.weight" in state and "norm0.weight" in state:
        return state
    names, unknown = BlockNames(), []
    for original, value in state.items():
        name = original.removeprefix("swin.")
        words = name.split(".")
        if words[0] in ("layernorm", "classifier") or words[-1] == "relative_position_index":
            continue
        if words[0] == "embeddings":
            name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
            names.renamed[name.replace("embeddings.norm", "patch_embed.norm")] = value
        elif words[:2] != ["encoder", "layers"] or len(words) < 5:
            unknown.append(original)
        elif words[3] == "downsample":
            names.renamed[f"layers.{words[2]}.{'.'.join(words[3:])}"] = value
        elif words[-1] == "relative_position_bias_table":
            names.renamed[f"layers.{words[2]}.blocks.{words[4]}.attn.{words[-1]}"] = value
        elif not names.take(f"layers.{words[2]}.blocks.{words[4]}", ".".join(words[5:]), value):
            unknown.append(original)
    if unknown:
        raise CheckpointError(f"not a Swin transformer of transformers; unexplained: {', '.join(unknown[:20])}")
    return names.finish()
