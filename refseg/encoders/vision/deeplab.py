"""DeepLabV3 on MobileNetV2 (1.0, output stride 16), without its classifier: a small trunk that learnt to segment.

    images -> MobileNetV2: 1/4, 1/8, 1/16 -> last group with dilation 2 -> 1x1 (256) | mean of the picture, 1x1 (256)
                                                                         -> 1x1 (256) of both

Chen et al., Rethinking Atrous Convolution, 2017; Sandler et al., MobileNetV2, CVPR 2018 (section 6.3: of the pyramid
only the 1x1 convolution and the picture's mean are kept). Normalisations are folded into the convolutions. Sides are
wanted as a multiple of 16, plus 1, as in training (513 = 32 x 16 + 1): then cell j of the map at stride s lies at pixel
s * j, and padding is the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.vision.mobilenet import Conv, InvertedBlock
from refseg.errors import CheckpointError

__all__ = ["DeepLabMaps", "DeepLabTrunk", "from_deeplab"]

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


def _execution_order() -> Iterator[str]:
    """Our name of every convolution in the order of the published graph."""
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
    names = list(_execution_order())
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
