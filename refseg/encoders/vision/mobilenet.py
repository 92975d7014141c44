"""MobileNetV2 (Sandler et al., CVPR 2018), normalisations folded into the convolutions.

    images -> stem 1/2 -> inverted residual blocks: 1x1 wider -> 3x3 channel by channel -> 1x1 narrower (+ input)

The maps are the blocks' outputs at strides 4, 8, 16 and 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refseg.config import Config, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.conv import FoldedConv
from refseg.types import VisualFeatures

__all__ = ["MobileNet", "MobileNetConfig", "from_execution_order"]


@dataclass(frozen=True)
class MobileNetConfig(Config):
    """Sizes; the defaults are MobileNetV2 1.0's (table 2 of the paper)."""

    stem_width: PositiveInt = 32
    """Channels of the stem, at stride 2."""
    expansions: tuple[PositiveInt, ...] = (1, 6, 6, 6, 6, 6, 6)
    """Inner over outer channels of a block, group by group."""
    widths: tuple[PositiveInt, ...] = (16, 24, 32, 64, 96, 160, 320)
    """Channels that each group of blocks puts out."""
    depths: tuple[PositiveInt, ...] = (1, 2, 3, 4, 3, 3, 1)
    """Blocks in each group."""
    strides: tuple[Literal[1, 2], ...] = (1, 2, 2, 2, 1, 2, 1)
    """Stride of each group's first block; their product is 16."""

    def check(self) -> None:
        """Raises `ConfigError` for lists of different lengths, and where the last stride is not 32."""
        if len({len(each) for each in (self.expansions, self.widths, self.depths, self.strides)}) != 1:
            raise ConfigError("widths: expansions, widths, depths and strides are as many positive numbers")
        if self.strides.count(2) != 4:
            raise ConfigError(f"strides={self.strides}: four times 2, otherwise 1, is wanted")


Conv = partial(FoldedConv, activation="relu6")


class InvertedBlock(nn.Module):
    """Wider, channel by channel, narrower; with its input added where size and channels stay."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.added = stride == 1 and inputs == outputs
        self.wider = Conv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = Conv(inner, inner, 3, stride, inner)
        self.narrower = Conv(inner, outputs, 1, act=False)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map after the block, at 1/stride of the size."""
        inner = maps if self.wider is None else self.wider(maps)
        after = self.narrower(self.depthwise(inner))
        return maps + after if self.added else after


class MobileNet(nn.Module):
    """The encoder; sizes that a stride does not divide are rounded up, as convolutions with padding do."""

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Conv(3, config.stem_width, 3, stride=2)
        groups: list[nn.Module] = []
        self.channels: dict[int, int] = {}
        inputs, stride = config.stem_width, 2
        for expansion, width, depth, step in zip(
            config.expansions, config.widths, config.depths, config.strides, strict=True
        ):
            blocks = []
            for number in range(depth):
                blocks.append(InvertedBlock(inputs, width, expansion, step if number == 0 else 1))
                inputs = width
            groups.append(nn.Sequential(*blocks))
            stride *= step
            self.channels[stride] = width
        self.groups = nn.ModuleList(groups)
        self.channels.pop(2, None)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Feature maps by stride, 4, 8, 16 and 32: each the last of its size."""
        if images.device.type == "cpu":
            # Convolutions on CPU are faster when a pixel's channels lie together in memory.
            images = images.contiguous(memory_format=torch.channels_last)
        maps, stride = self.stem(images), 2
        features: dict[int, Tensor] = {}
        for group, step in zip(self.groups, self.config.strides, strict=True):
            maps, stride = group(maps), stride * step
            features[stride] = maps
        features.pop(2, None)
        return features


def _execution_order(config: MobileNetConfig) -> Iterator[tuple[str, str]]:
    """(the part of a published name between number and what, our name) of every tensor-bearing step."""
    yield "stem", "stem"
    block = 0
    for group, (expansion, depth) in enumerate(zip(config.expansions, config.depths, strict=True)):
        for number in range(depth):
            ours = f"groups.{group}.{number}"
            if expansion > 1:
                yield f"b{block}_expand", f"{ours}.wider"
            yield f"b{block}_dw", f"{ours}.depthwise"
            yield f"b{block}_project", f"{ours}.narrower"
            block += 1


def from_execution_order(state: dict[str, Tensor], config: MobileNetConfig | None = None) -> dict[str, Tensor]:
    """MobileNetV2's folded tensors (`000.stem.weight`, `001.b0_dw.bias`, ...: numbered as computed) under ours.

    The last 1x1 convolution before the classifier is left out. Raises `CheckpointError` for names that do not fit.
    """
    config = config or MobileNetConfig()
    by_part: dict[tuple[str, str], Tensor] = {}
    for name, value in state.items():
        number, _, rest = name.partition(".")
        part, _, what = rest.rpartition(".")
        if not number.isdigit() or what not in ("weight", "bias"):
            raise CheckpointError(f"not a MobileNetV2 in order of execution; unexplained: {name}")
        by_part[part, what] = value
    renamed: dict[str, Tensor] = {}
    for part, ours in _execution_order(config):
        for what in ("weight", "bias"):
            if (part, what) not in by_part:
                raise CheckpointError(f"not a MobileNetV2 of these sizes; missing: {part}.{what}")
            renamed[f"{ours}.conv.{what}"] = by_part.pop((part, what)).float()
    strange = sorted({part for part, _ in by_part} - {"head"})
    if strange:
        raise CheckpointError(f"not a MobileNetV2 of these sizes; unexplained: {', '.join(strange[:8])}")
    return renamed
