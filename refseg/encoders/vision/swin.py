"""Swin transformer (Liu et al., ICCV 2021) with a place for language after every stage.

    images (B 3 H W) -> patches (1/4) -> stage 0 -> merge (1/8) -> stage 1 -> merge (1/16) -> stage 2 -> merge
    (1/32) -> stage 3

`after_stage(i, tokens, (h, w))` sees stage i's tokens and returns (what goes out as the map of that stage, what goes
on into the next one): language-aware encoders fuse there (LAVT, ReLA). Without it both are the tokens themselves.
Every outgoing map passes its own layer normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import CheckpointError, ConfigError
from refseg.nn.window import WindowAttention, WindowLayout, window_layout

__all__ = ["SWIN_B", "SWIN_T", "AfterStage", "Swin", "SwinConfig", "from_transformers"]

AfterStage = Callable[[int, Tensor, tuple[int, int]], tuple[Tensor, Tensor]]

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class SwinConfig:
    """Sizes of a Swin transformer; the defaults are Swin-B with windows of 12 (ImageNet-22k at 384 pixels)."""

    embed_dim: int = 128
    """Channels of stage 0; every stage doubles them."""
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    """Blocks in each stage; odd ones are shifted."""
    heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    """Attention heads in each stage."""
    window: int = 12
    """Side of a window in tokens; odd blocks shift by half of it, rounded down."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's perceptron, as a multiple of its channels."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    drop_path: float = 0.3
    """Probability of skipping the last block while training; rises linearly from 0 at the first."""

    def __post_init__(self) -> None:
        for name in ("depths", "heads"):
            values = getattr(self, name)
            if len(values) != 4 or min(values) < 1:
                raise ConfigError(f"{name}={values!r}: four positive numbers are wanted, one a stage")
        for stage, heads in enumerate(self.heads):
            if self.embed_dim < 1 or (self.embed_dim << stage) % heads:
                raise ConfigError(
                    f"heads[{stage}]={heads} does not divide the stage's {self.embed_dim << stage} channels"
                )
        if self.window < 2:
            raise ConfigError(f"window={self.window}: at least 2 is wanted")
        if self.mlp_ratio <= 0:
            raise ConfigError(f"mlp_ratio={self.mlp_ratio}: a positive number is wanted")
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path={self.drop_path}: a probability below 1 is wanted")


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


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Every token on its own."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class SwinBlock(nn.Module):
    """Attention in windows, then the perceptron; both pre-normalised and residual."""

    def __init__(self, config: SwinConfig, width: int, heads: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.shift = config.window // 2 if shifted else 0
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, config.window, config.qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))

    def forward(self, tokens: Float[Tensor, "B T C"], layout: WindowLayout) -> Float[Tensor, "B T C"]:
        """One block; `layout` must be that of this block's shift."""
        tokens = tokens + self._skip(self.attn(self.norm1(tokens), layout))
        return tokens + self._skip(self.mlp(self.norm2(tokens)))

    def _skip(self, branch: Tensor) -> Tensor:
        """Stochastic depth: in training, drop the branch of a picture, and scale the others to keep the mean."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep).to(branch.dtype) / keep


class Stage(nn.Module):
    """The blocks of one resolution, and the merging that leads to the next."""

    def __init__(self, config: SwinConfig, index: int, rates: list[float]) -> None:
        super().__init__()
        width = config.embed_dim << index
        self.window = config.window
        self.blocks = nn.ModuleList(
            SwinBlock(config, width, config.heads[index], number % 2 == 1, rate) for number, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(width) if index < 3 else None

    def forward(self, tokens: Float[Tensor, "B T C"], size: tuple[int, int]) -> Float[Tensor, "B T C"]:
        """All blocks, without the merging."""
        for block in self.blocks:
            assert isinstance(block, SwinBlock)
            tokens = block(tokens, window_layout(*size, self.window, block.shift, block.attn.heads, tokens.device))
        return tokens


class Swin(nn.Module):
    """The encoder; any picture size, padded where patches, windows or merging want it."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[int, int] = {stride: config.embed_dim << i for i, stride in enumerate(STRIDES)}
        self.patch_embed = PatchEmbed(config.embed_dim)
        blocks = sum(config.depths)
        rates = [config.drop_path * index / (blocks - 1) for index in range(blocks)]
        stages = []
        for index, depth in enumerate(config.depths):
            stages.append(Stage(config, index, rates[:depth]))
            rates = rates[depth:]
        self.layers = nn.ModuleList(stages)
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in self.channels.values())

    def forward(
        self, images: Float[Tensor, "B 3 H W"], after_stage: AfterStage | None = None
    ) -> dict[int, Float[Tensor, "B _ _ _"]]:
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
    classifier and index buffers are left out; our `norm0` to `norm3` are not in such files.
    Queries, keys and values become one matrix. Raises `CheckpointError` with the names that are none of a Swin's.
    """
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
    projections = {
        f"attention.{name}": part for part in ("query", "key", "value") for name in (f"self.{part}", f"{part[0]}_proj")
    }
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for original, value in state.items():
        name = original.removeprefix("swin.")
        if name.startswith(("layernorm.", "classifier.")) or name.endswith("relative_position_index"):
            continue
        if name.startswith("embeddings."):
            name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
            renamed[name.replace("embeddings.norm", "patch_embed.norm")] = value
            continue
        words = name.split(".")
        if words[:2] != ["encoder", "layers"] or len(words) < 5:
            unknown.append(original)
            continue
        stage = f"layers.{words[2]}"
        if words[3] == "downsample":
            renamed[f"{stage}.{'.'.join(words[3:])}"] = value
            continue
        block, inner, last = f"{stage}.blocks.{words[4]}", ".".join(words[5:-1]), words[-1]
        if last == "relative_position_bias_table":
            renamed[f"{block}.attn.{last}"] = value
        elif inner in fixed:
            renamed[f"{block}.{fixed[inner]}.{last}"] = value
        elif inner in projections:
            parts.setdefault(f"{block}.attn.qkv.{last}", {})[projections[inner]] = value
        else:
            unknown.append(original)
    if unknown:
        raise CheckpointError(f"not a Swin transformer of transformers; unexplained: {', '.join(unknown[:20])}")
    for name, pieces in parts.items():
        if len(pieces) != 3:
            raise CheckpointError(f"{name}: query, key and value are wanted, only {sorted(pieces)} are there")
        renamed[name] = torch.cat([pieces["query"], pieces["key"], pieces["value"]])
    return renamed
