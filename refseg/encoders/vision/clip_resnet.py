"""CLIP's ResNet (Radford et al., ICML 2021, section 2.4), its attention pooling kept as a map.

    images (B 3 H W) -> three 3x3 convolutions, mean of 2x2 (1/4) -> stages at 1/4, 1/8, 1/16, 1/32
                                                                    last stage + positions -> every place looks at all
    maps: {4: stage 1, 8: stage 2, 16: stage 3, 32: relu(attention + linear map of stage 4)}

Against the ResNet of He et al.: a stem of three convolutions, means of 2x2 where a stride was, attention at the end.
CLIP pools with one query, the mean; CRIS (Wang et al., CVPR 2022) lets every place ask, and adds a linear map of the
last stage with a normalisation of its own, `connect`, which CLIP's weights do not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.attention import attend
from refseg.nn.conv import ConvNorm, channels_last
from refseg.types import VisualFeatures

__all__ = ["CLIP_R50", "CLIP_R101", "AttentionPool", "ClipResNet", "ClipResNetConfig", "from_openai"]

EXPANSION = 4
"""Channels that a bottleneck puts out, as a multiple of its 3x3 convolution's."""


@dataclass(frozen=True)
class ClipResNetConfig(Config):
    """Sizes of the encoder; the defaults are CLIP's RN50."""

    width: PositiveInt = 64
    """Channels of the stem; the stages put out 4, 8, 16 and 32 times as many."""
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
    """Blocks in each stage."""
    output_width: PositiveInt = 1024
    """Channels of the map at stride 32, those of CLIP's joint space: 512 in RN101."""
    heads: PositiveInt = 32
    """Of the attention pooling; one for each 64 of its channels, as published."""
    grid: PositiveInt = 7
    """Rows and columns of its table of positions: input size in CLIP's training / 32."""

    def check(self) -> None:
        """Raises `ConfigError` for an odd width, and heads that do not divide the channels of the last stage."""
        if self.width % 2:
            raise ConfigError(f"width={self.width}: an even number is wanted, the stem begins with half of it")
        if self.width * 32 % self.heads:
            raise ConfigError(f"heads={self.heads} does not divide the {self.width * 32} channels of the last stage")


CLIP_R50 = ClipResNetConfig()
CLIP_R101 = ClipResNetConfig(depths=(3, 4, 23, 3), output_width=512)


class Bottleneck(nn.Module):
    """relu(shortcut + 1x1, 3x3, [mean of 2x2], 1x1); where the size is halved the shortcut takes means too."""

    def __init__(self, inputs: int, inner: int, halve: bool) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.convs = nn.Sequential(ConvNorm(inputs, inner, 1, "batch"), ConvNorm(inner, inner, 3, "batch"))
        self.last = ConvNorm(inner, outputs, 1, "batch", relu=False)
        self.halve = halve
        self.shortcut = ConvNorm(inputs, outputs, 1, "batch", relu=False) if halve or inputs != outputs else None

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map after the block, half as large where the block halves."""
        inner = self.convs(maps)
        if self.halve:
            inner, maps = F.avg_pool2d(inner, 2), F.avg_pool2d(maps, 2)
        kept = maps if self.shortcut is None else self.shortcut(maps)
        return F.relu(self.last(inner) + kept)


class AttentionPool(nn.Module):
    """Self-attention over all places of the last map, resized positions added to each, beside a linear map of it."""

    def __init__(self, config: ClipResNetConfig) -> None:
        super().__init__()
        channels, outputs = config.width * 32, config.output_width
        self.heads, self.grid = config.heads, config.grid
        self.positions = nn.Parameter(torch.randn(config.grid**2, channels) / channels**0.5)
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.output = nn.Linear(channels, outputs)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.normal_(layer.weight, std=channels**-0.5)
        self.connect = ConvNorm(channels, outputs, 1, "batch", relu=False)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """relu(attention + connect(map)), of the map's size."""
        size = maps.shape[-2:]
        table = self.positions.t().unflatten(1, (self.grid, self.grid))[None]
        if tuple(size) != (self.grid, self.grid):
            table = F.interpolate(table, size=size, mode="bicubic", align_corners=False)
        tokens = (maps + table.to(maps.dtype)).flatten(2).transpose(1, 2)
        parts = (
            layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        queries, keys, values = parts
        gathered = self.output(attend(queries, keys, values).transpose(1, 2).flatten(2))
        return F.relu(gathered.transpose(1, 2).unflatten(2, size) + self.connect(maps))


class ClipResNet(nn.Module):
    """The encoder; sides that 32 does not divide are padded with zeros."""

    def __init__(self, config: ClipResNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.channels: dict[int, int] = {4: 4 * width, 8: 8 * width, 16: 16 * width, 32: config.output_width}
        self.stem = nn.Sequential(
            ConvNorm(3, width // 2, 3, "batch", stride=2),
            ConvNorm(width // 2, width // 2, 3, "batch"),
            ConvNorm(width // 2, width, 3, "batch"),
            nn.AvgPool2d(2),
        )
        stages, inputs = [], width
        for index, depth in enumerate(config.depths):
            inner = width << index
            blocks = []
            for number in range(depth):
                blocks.append(Bottleneck(inputs, inner, number == 0 and index > 0))
                inputs = inner * EXPANSION
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.pool = AttentionPool(config)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Feature maps by stride: {4: "B 4w H/4 W/4", 8: ..., 16: ..., 32: "B output_width H/32 W/32"}."""
        maps = self.stem(channels_last(F.pad(images, (0, -images.shape[3] % 32, 0, -images.shape[2] % 32))))
        features = {}
        for stride, stage in zip(self.channels, self.stages, strict=True):
            maps = stage(maps)
            features[stride] = maps
        features[32] = self.pool(maps)
        return features


_BLOCK = {"conv1": "convs.0.conv", "bn1": "convs.0.norm", "conv2": "convs.1.conv", "bn2": "convs.1.norm"}
_BLOCK |= {"conv3": "last.conv", "bn3": "last.norm"}
_SHORT = {"0": "shortcut.conv", "1": "shortcut.norm"}
_POOL = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "c_proj": "output"}
_CONNECT = {"0": "connect.conv", "1": "connect.norm"}


def from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of OpenAI's CLIP, as open_clip keeps them (`visual.layer1.0.conv1.weight`), under ours.

    The text's part and the counters of batch normalisation are left out, and the position of the pooled query, which
    no place has. Raises `CheckpointError` with names of the picture's part that are none of a ResNet's, and where there
    is no such part.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for original, value in state.items():
        if not original.startswith("visual.") or original.endswith("num_batches_tracked"):
            continue
        words = original.split(".")[1:]
        key: str | None = None
        if words == ["attnpool", "positional_embedding"]:
            key, value = "pool.positions", value[1:]
        elif len(words) == 2 and words[0][:-1] in ("conv", "bn") and words[0][-1] in "123":
            part = "conv" if words[0].startswith("conv") else "norm"
            key = f"stem.{int(words[0][-1]) - 1}.{part}.{words[1]}"
        elif words[0] == "attnpool" and len(words) == 3 and words[1] in _POOL:
            key = f"pool.{_POOL[words[1]]}.{words[2]}"
        elif words[:2] == ["attnpool", "connect"] and len(words) == 4 and words[2] in _CONNECT:
            key = f"pool.{_CONNECT[words[2]]}.{words[3]}"
        elif words[0] in ("layer1", "layer2", "layer3", "layer4") and len(words) >= 4:
            block = f"stages.{int(words[0][-1]) - 1}.{words[1]}"
            if words[2] == "downsample" and words[3] in _SHORT and len(words) == 5:
                key = f"{block}.{_SHORT[words[3]]}.{words[4]}"
            elif words[2] in _BLOCK and len(words) == 4:
                key = f"{block}.{_BLOCK[words[2]]}.{words[3]}"
        if key is None:
            unknown.append(original)
            continue
        renamed[key] = value.float()
        if key.endswith(".running_var"):
            renamed[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    if unknown or not renamed:
        raise CheckpointError(
            "not a ResNet of CLIP under OpenAI's names (visual.layer1.0.conv1.weight, ...)"
            + (f"; unexplained: {', '.join(unknown[:20])}" if unknown else "")
        )
    return renamed
