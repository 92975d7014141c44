"""DarkNet-53 with the head convolutions of YOLOv3, the picture encoder of LTS, ISFP, VLT and M3Att.

    image -> stem -> 64 -> 128 -> 256 --> 512 --> 1024 -> head: 1x1, 3x3, three times
    stride   1       2     4      8       16      32       |
                                  |       |                |
                                  map 8   map 16           map 32

Redmon and Farhadi: YOLOv3: An Incremental Improvement, 2018, table 1. The systems read it at three strides and take the
last one behind the detector's six head convolutions (published code of VLT and MCN; 56,367,712 numbers with the
statistics of the normalisation). Pictures are RGB, 0 to 1, without mean and deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MultipleOf
from jaxtyping import Float
from torch import Tensor, nn

from refseg.config import Config, NonNegativeInt, PositiveFloat, PositiveInt
from refseg.geometry import InputConfig
from refseg.nn.conv import KERAS_EPS, ConvNorm, conv_leaky
from refseg.types import VisualFeatures

__all__ = ["DARKNET_INPUT", "DarkNet", "DarkNetConfig"]

EvenInt = Annotated[int, Ge(2), MultipleOf(2)]

DARKNET_INPUT = InputConfig(
    size=416,
    resize="letterbox",
    interpolation="bicubic",
    mean=(0.0,) * 3,
    std=(255.0,) * 3,
    padding=(127.5,) * 3,
    rasterise="original",
)
"""How the family's systems (VLT, M3Att, LTS, ISFP) take images: RGB of 0 to 1 in the middle of a grey square."""


@dataclass(frozen=True)
class DarkNetConfig(Config):
    """Sizes of a DarkNet; the defaults are DarkNet-53 as VLT's published code uses it."""

    widths: tuple[PositiveInt, EvenInt, EvenInt, EvenInt, EvenInt, EvenInt] = (32, 64, 128, 256, 512, 1024)
    """Channels of the stem, and of the stages at strides 2, 4, 8, 16 and 32; even from the second on."""
    depths: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] = (1, 2, 8, 8, 4)
    """Residual units of the stages."""
    head: bool = True
    """Six more convolutions at stride 32, those of YOLOv3's first detector."""
    freeze: Literal["all_but_last2", "all", "none"] = "all_but_last2"
    """Convolutions that keep their weights, and whose normalisation keeps its statistics in training: all but the last
    two (published code of VLT and MCN), all, or none. Without pretrained weights only "none" makes sense."""
    eps: PositiveFloat = KERAS_EPS
    """Added to variances before the root: .001 in Keras, where the family was trained; Darknet itself adds .000001."""


class Residual(nn.Module):
    """maps + 3x3(1x1(maps)); the 1x1 convolution halves the channels."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_leaky(width, width // 2, 1, eps=eps), conv_leaky(width // 2, width, 3, eps=eps))

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """A map of the same size."""
        return maps + self.convs(maps)


class DarkNet(nn.Module):
    """The encoder; sizes that a stride does not divide are rounded up."""

    def __init__(self, config: DarkNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, eps = config.widths, config.eps
        self.channels: dict[int, int] = dict(zip((8, 16, 32), widths[3:], strict=True))
        self.stem = conv_leaky(3, widths[0], 3, eps=eps)
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv_leaky(before, width, 3, stride=2, eps=eps), *(Residual(width, eps) for _ in range(depth))
            )
            for before, width, depth in zip(widths[:-1], widths[1:], config.depths, strict=True)
        )
        self.head: nn.Sequential | None = None
        if config.head:
            last = widths[-1]
            self.head = nn.Sequential(
                *(
                    conv_leaky(last // (1 + index % 2), last // (2 - index % 2), 3 if index % 2 else 1, eps=eps)
                    for index in range(6)
                )
            )
        self._freeze()

    def convolutions(self) -> list[ConvNorm]:
        """All of them, in the order in which they are applied and files of weights hold them."""
        return [module for module in self.modules() if isinstance(module, ConvNorm)]

    def frozen(self) -> list[ConvNorm]:
        """The convolutions that training does not change."""
        every = self.convolutions()
        return {"all": every, "none": [], "all_but_last2": every[:-2]}[self.config.freeze]

    def _freeze(self) -> None:
        for conv in self.frozen():
            conv.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> DarkNet:
        """Training mode; the normalisation of frozen convolutions stays with the statistics it has."""
        super().train(mode)
        for conv in self.frozen():
            conv.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> VisualFeatures:
        """{8: "B widths[3] H/8 W/8", 16: "B widths[4] ...", 32: "B widths[5] ..." (behind the head)}."""
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        maps = self.stem(images)
        features = {}
        for stride, stage in zip((2, 4, 8, 16, 32), self.stages, strict=True):
            maps = stage(maps)
            if stride in self.channels:
                features[stride] = maps
        if self.head is not None:
            features[32] = self.head(maps)
        return features
