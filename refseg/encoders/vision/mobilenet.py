"""MobileNetV2 (Sandler et al., CVPR 2018), normalisations folded into the convolutions, and DeepLabV3's trunk on it.

    images -> stem 1/2 -> inverted residual blocks: 1x1 wider -> 3x3 channel by channel -> 1x1 narrower (+ input)
              DeepLab: 1/4, 1/8, 1/16 -> last group with dilation 2 -> 1x1 (256) | mean of the picture, 1x1 (256)
                                                                    -> 1x1 (256) of both

The encoder's maps are the blocks' outputs at strides 4, 8, 16 and 32. `DeepLabTrunk` is DeepLabV3 on MobileNetV2 1.0
(output stride 16; Chen et al., Rethinking Atrous Convolution, 2017; Sandler et al., section 6.3: of the pyramid only
the 1x1 convolution and the picture's mean are kept) without its classifier: a small trunk that learnt to segment. It
wants sides of a multiple of 16, plus 1, as in training (513 = 32 x 16 + 1): then cell j of the map at stride s lies at
pixel s * j, and padding is the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.conv import FoldedConv
from refseg.types import VisualFeatures

__all__ = ["DeepLabMaps", "DeepLabTrunk", "MobileNet", "MobileNetConfig", "from_deeplab", "from_execution_order"]


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


_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of each group of MobileNetV2 (table 2), the last stride 2 taken out."""
_DILATED = ((5, 1), (5, 2), (6, 0))
"""(group, block) whose 3x3 convolutions have dilation 2 instead: what comes after the stride that was taken out."""


class DeepLabMaps(NamedTuple):
    """Feature maps at strides 4 (24 channels), 8 (32), 16 (96, before dilation) and 16 (256, with the context)."""

    fine: Float[Tensor, "N 24 _ _"]
    middle: Float[Tensor, "N 32 _ _"]
    coarse: Float[Tensor, "N 96 _ _"]
    context: Float[Tensor, "N 256 _ _"]


class DeepLabTrunk(nn.Module):
    """The network up to the layer before its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, stride=2)
        groups: list[nn.Module] = []
        inputs = 32
        for group, (expansion, width, depth, stride) in enumerate(_GROUPS):
            blocks = []
            for number in range(depth):
                block = InvertedBlock(inputs, width, expansion, stride if number == 0 else 1)
                if (group, number) in _DILATED:
                    block.depthwise.conv.dilation, block.depthwise.conv.padding = (2, 2), (2, 2)
                blocks.append(block)
                inputs = width
            groups.append(nn.Sequential(*blocks))
        self.groups = nn.ModuleList(groups)
        self.local = nn.Conv2d(320, 256, 1)
        self.mean = nn.Conv2d(320, 256, 1)
        self.both = nn.Conv2d(512, 256, 1)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> DeepLabMaps:
        """`images` are RGB / 128 - 1 (`pixels / 128 - 1` with pixels 0 to 255)."""
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        maps = self.stem(images)
        each: list[Tensor] = []
        for group in self.groups:
            maps = group(maps)
            each.append(maps)
        local = F.relu(self.local(maps))
        mean = F.relu(self.mean(maps.mean(dim=(2, 3), keepdim=True)))
        context = F.relu(self.both(torch.cat([mean.expand_as(local), local], dim=1)))
        return DeepLabMaps(each[1], each[2], each[4], context)


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


def _deeplab_order() -> Iterator[str]:
    """Our name of every convolution of `DeepLabTrunk` in the order of the published graph."""
    yield "stem.conv"
    for group, (expansion, _, depth, _) in enumerate(_GROUPS):
        for number in range(depth):
            parts = ("wider", "depthwise", "narrower") if expansion > 1 else ("depthwise", "narrower")
            yield from (f"groups.{group}.{number}.{part}.conv" for part in parts)
    yield from ("local", "mean", "both")


def from_deeplab(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors (`00_weight` or `00.weight`, `00_bias`, ... in order of execution) under our names.

    The classifier, the last convolution, is left out. Raises `CheckpointError` when numbers do not fit.
    """
    state = {key.replace(".", "_"): value for key, value in state.items()}
    names = list(_deeplab_order())
    numbers = [f"{number:02d}" for number in range(len(names) + 1)]
    wanted = {f"{number}_{what}" for number in numbers for what in ("weight", "bias")}
    if wanted != state.keys():
        odd = sorted(wanted ^ state.keys())
        raise CheckpointError(f"not a DeepLabV3 on MobileNetV2 in order of execution: {', '.join(odd[:8])}")
    return {
        f"{name}.{what}": state[f"{number}_{what}"].float()
        for number, name in zip(numbers, names, strict=False)
        for what in ("weight", "bias")
    }
