"""ResNet (He et al., CVPR 2016), from ResNet-101 down to encoders small enough to train on two CPU cores.

The stride of a bottleneck stands in its 3x3 convolution, as in the ImageNet weights that everybody uses today.

    images (B 3 H W) -> stem (1/4) -> stage 1 (1/4) -> stage 2 (1/8) -> stage 3 (1/16) -> stage 4 (1/32)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import CheckpointError, ConfigError
from refseg.nn.conv import ConvNorm, NormKind
from refseg.types import VisualFeatures

__all__ = [
    "RESNET18",
    "RESNET50",
    "RESNET101",
    "SMALL_RESNET",
    "ResNet",
    "ResNetConfig",
    "from_torchvision",
    "from_transformers",
]


@dataclass(frozen=True)
class ResNetConfig(Config):
    """Sizes of a ResNet; the defaults are ResNet-50 with frozen normalisation."""

    block: Literal["basic", "bottleneck"] = "bottleneck"
    """basic: two 3x3 convolutions. bottleneck: 1x1, 3x3, 1x1."""
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (256, 512, 1024, 2048)
    """Channels that each stage puts out, at strides 4, 8, 16 and 32."""
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
    """Blocks in each stage."""
    stem: Literal["conv7", "conv3", "patch"] = "conv7"
    """conv7: 7x7 convolution of stride 2 and 3x3 maximum. conv3: two 3x3 convolutions of stride 2. patch: one 4x4
    convolution of stride 4, the cheapest."""
    stem_width: PositiveInt = 64
    """Channels that the stem puts out."""
    norm: NormKind = "frozen"
    """frozen: fixed statistics from ImageNet. batch: statistics of the batch. group: of each picture's own groups."""
    norm_groups: PositiveInt = 32
    """Groups of the "group" normalisation; must divide every width."""
    dilated: bool = False
    """The last stage keeps stride 16, its 3x3 convolutions spread over twice the reach instead (DETR calls it DC5). Its
    map is still called 32, so that decoders find it."""

    def check(self) -> None:
        """Raises `ConfigError` for widths that blocks or groups do not divide."""
        if self.block == "bottleneck" and any(width % 4 for width in self.widths):
            raise ConfigError(f"widths={self.widths}: a bottleneck needs widths divisible by 4")
        inner = [width // 4 for width in self.widths] if self.block == "bottleneck" else []
        if self.norm == "group" and any(width % self.norm_groups for width in (*self.widths, *inner, self.stem_width)):
            raise ConfigError(
                f"norm_groups={self.norm_groups} must divide all of {(*self.widths, *inner)} and the stem"
            )


RESNET18 = ResNetConfig(block="basic", widths=(64, 128, 256, 512), depths=(2, 2, 2, 2))
RESNET50 = ResNetConfig()
RESNET101 = ResNetConfig(depths=(3, 4, 23, 3))
SMALL_RESNET = ResNetConfig(
    block="basic", widths=(48, 96, 192, 256), depths=(1, 2, 2, 1), stem="conv3", stem_width=32, norm="batch"
)
"""For presets that train on two CPU cores: 2.6 million parameters."""


class Block(nn.Module):
    """A residual block: relu(shortcut + convolutions); the first block of a stage changes size and channels."""

    def __init__(self, config: ResNetConfig, inputs: int, outputs: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        norm, groups = config.norm, config.norm_groups
        if config.block == "basic":
            convs = [
                ConvNorm(inputs, outputs, 3, norm, stride=stride, groups=groups, dilation=dilation),
                ConvNorm(outputs, outputs, 3, norm, relu=False, groups=groups, dilation=dilation),
            ]
        else:
            inner = outputs // 4
            convs = [
                ConvNorm(inputs, inner, 1, norm, groups=groups),
                ConvNorm(inner, inner, 3, norm, stride=stride, groups=groups, dilation=dilation),
                ConvNorm(inner, outputs, 1, norm, relu=False, groups=groups),
            ]
        self.convs = nn.Sequential(*convs)
        self.shortcut: ConvNorm | None = None
        if stride > 1 or inputs != outputs:
            self.shortcut = ConvNorm(inputs, outputs, 1, norm, stride=stride, relu=False, groups=groups)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map after the block, at 1/stride of the size."""
        kept = maps if self.shortcut is None else self.shortcut(maps)
        return F.relu(self.convs(maps) + kept, inplace=True)


class ResNet(nn.Module):
    """The encoder; sizes that a stride does not divide are rounded up, as convolutions with padding do."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.channels: dict[int, int] = dict(zip((4, 8, 16, 32), config.widths, strict=True))
        self.stem = self._build_stem(config)
        stages, inputs = [], config.stem_width
        for index, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            dilated = config.dilated and index == 3
            blocks = []
            for number in range(depth):
                stride = 2 if number == 0 and index > 0 and not dilated else 1
                # The first block still stands where the stage before it left off (as torchvision dilates).
                blocks.append(Block(config, inputs, width, stride, 2 if dilated and number > 0 else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    @staticmethod
    def _build_stem(config: ResNetConfig) -> nn.Sequential:
        norm, groups, width = config.norm, config.norm_groups, config.stem_width
        if config.stem == "conv7":
            return nn.Sequential(
                ConvNorm(3, width, 7, norm, stride=2, groups=groups), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            )
        if config.stem == "conv3":
            return nn.Sequential(
                ConvNorm(3, width, 3, norm, stride=2, groups=groups),
                ConvNorm(width, width, 3, norm, stride=2, groups=groups),
            )
        return nn.Sequential(ConvNorm(3, width, 4, norm, stride=4, groups=groups, padding=0))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """Feature maps by stride: {4: "B widths[0] H/4 W/4", 8: ..., 16: ..., 32: ...}; 32 is 16 if `dilated`."""
        if images.device.type == "cpu":
            # Convolutions on CPU are faster when a pixel's channels lie together in memory.
            images = images.contiguous(memory_format=torch.channels_last)
        if self.config.stem == "patch" and (images.shape[2] % 4 or images.shape[3] % 4):
            images = F.pad(images, (0, -images.shape[3] % 4, 0, -images.shape[2] % 4))
        maps = self.stem(images)
        features = {}
        for stride, stage in zip(self.channels, self.stages, strict=True):
            maps = stage(maps)
            features[stride] = maps
        return features


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under torchvision's names (`layer1.0.conv1.weight`, `bn1.bias`, ...) under ours.

    The classifier (`fc.*`) and the counters of batch normalisation are left out. Raises `CheckpointError` with the
    names that are none of a ResNet's.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "fc" or parts[-1] == "num_batches_tracked":
            continue
        if parts[0] == "conv1":
            key = f"stem.0.conv.{parts[1]}"
        elif parts[0] == "bn1":
            key = f"stem.0.norm.{parts[1]}"
        elif len(parts) >= 4 and parts[0] in ("layer1", "layer2", "layer3", "layer4"):
            prefix = f"stages.{int(parts[0][5:]) - 1}.{parts[1]}"
            if parts[2] == "downsample":
                key = f"{prefix}.shortcut.{'conv' if parts[3] == '0' else 'norm'}.{parts[4]}"
            elif parts[2][:-1] in ("conv", "bn"):
                part = "conv" if parts[2].startswith("conv") else "norm"
                key = f"{prefix}.convs.{int(parts[2][-1]) - 1}.{part}.{parts[3]}"
            else:
                unknown.append(name)
                continue
        else:
            unknown.append(name)
            continue
        renamed[key] = value
    if unknown:
        raise CheckpointError(f"not a ResNet under torchvision's names; unexplained: {', '.join(unknown[:20])}")
    return renamed


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers' `ResNetModel`, `ResNetForImageClassification` or `ResNetBackbone` under our names, such
    as those of microsoft/resnet-50; torchvision's names are read too.

    The classifier and the counters of batch normalisation are left out. Raises `CheckpointError` with the names that
    are none of a ResNet's.
    """
    if "stem.0.conv.weight" in state:
        return state
    if any(name.startswith(("conv1.", "layer1.")) for name in state):
        return from_torchvision(state)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for original, value in state.items():
        words = original.removeprefix("resnet.").split(".")
        if words[0] == "classifier" or words[-1] == "num_batches_tracked":
            continue
        part = {"convolution": "conv", "normalization": "norm"}.get(words[-2]) if len(words) > 2 else None
        match words[:-2]:
            case ["embedder", "embedder"] if part:
                key = f"stem.0.{part}.{words[-1]}"
            case ["encoder", "stages", stage, "layers", block, "shortcut"] if part:
                key = f"stages.{stage}.{block}.shortcut.{part}.{words[-1]}"
            case ["encoder", "stages", stage, "layers", block, "layer", number] if part:
                key = f"stages.{stage}.{block}.convs.{number}.{part}.{words[-1]}"
            case _:
                unknown.append(original)
                continue
        renamed[key] = value
    if unknown:
        raise CheckpointError(
            f"not a ResNet under transformers' or torchvision's names; unexplained: {', '.join(unknown[:20])}"
        )
    return renamed
