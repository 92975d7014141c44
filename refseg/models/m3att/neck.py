r"""M3Att's neck, F_vis: an encoder's maps at strides 8, 16 and 32 become one map.

The thesis says only that a backbone gives F_vis. "vlt" is the chain of VLT's published code, by the same authors,
without its product with the expression; the widths of VLT's 256 channels are kept as multiples of C:

    F_v1 (1/32) -> 1x1, 3x3 -> F_m ---------- up ----------------.--------------------------> cat -> 1x1 -> 1x1 -> F_vis
    F_v2 (1/16) -> 1x1 ----------------------------> cat -> 1x1 -+-> mid ------------> cat -> 1x1 --^
    F_v3 (1/8)  -> average of 2x2 -> 1x1 --------------> cat -> 1x1 -> 1x1 -> 3x3 -------^

"sum" is what the later text on VLT has: each map through a 1x1 convolution, resized and added.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.nn.conv import ConvNorm

__all__ = ["SummedNeck", "VLTNeck", "at_stride"]

STRIDES = (8, 16, 32)


class VLTNeck(nn.Module):
    """The chain, at stride 16."""

    def __init__(self, channels: dict[int, int], width: int) -> None:
        super().__init__()
        half, double, large = width, 2 * width, 4 * width
        self.coarse = nn.Sequential(_conv(channels[32], double, 1), _conv(double, large, 3))
        self.middle = _conv(channels[16], double, 1)
        self.fine = _conv(channels[8], half, 1)
        self.with_middle = _conv(large + double, double, 1)
        self.with_fine = _conv(double + half, double, 1)
        self.refined = nn.Sequential(_conv(double, half, 1), _conv(half, double, 3))
        self.joined = _conv(2 * double, double, 1)
        self.output = nn.Sequential(_conv(large + double, half, 1), _conv(half, width, 1))

    def forward(self, maps: dict[int, Float[Tensor, "N _ _ _"]]) -> Float[Tensor, "N C h w"]:
        """F_vis at the size of the map of stride 16."""
        size = (maps[16].shape[2], maps[16].shape[3])
        coarse = at_stride(self.coarse(maps[32]), 32, 16, size)
        middle = self.with_middle(torch.cat([coarse, self.middle(maps[16])], dim=1))
        fine = self.fine(at_stride(maps[8], 8, 16, size))
        both = self.with_fine(torch.cat([middle, fine], dim=1))
        joined = self.joined(torch.cat([self.refined(both), middle], dim=1))
        return self.output(torch.cat([coarse, joined], dim=1))


class SummedNeck(nn.Module):
    """Each map to C channels and to `stride`; their sum."""

    def __init__(self, channels: dict[int, int], width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.maps = nn.ModuleDict({str(own): _conv(channels[own], width, 1) for own in STRIDES})

    def forward(self, maps: dict[int, Float[Tensor, "N _ _ _"]]) -> Float[Tensor, "N C h w"]:
        """F_vis at the size of the map of the stride."""
        size = (maps[self.stride].shape[2], maps[self.stride].shape[3])
        resized = [at_stride(self.maps[str(own)](maps[own]), own, self.stride, size) for own in STRIDES]
        return torch.stack(resized).sum(dim=0)


def at_stride(
    maps: Float[Tensor, "N C h w"], stride: int, target: int, size: tuple[int, int]
) -> Float[Tensor, "N C u v"]:
    """A map of `stride` at the stride `target`: cells repeated, or the means of those that lie in a cell of it.

    `size` is the result's: (rows, columns) that cover the same image. Places stay where they are for sizes that no
    stride divides, since cells count from the upper left corner in every map.
    """
    if stride < target:
        return F.avg_pool2d(maps, target // stride, ceil_mode=True, count_include_pad=False)
    if stride > target:
        maps = F.interpolate(maps, scale_factor=stride // target, mode="nearest")
    return maps[:, :, : size[0], : size[1]]


def _conv(inputs: int, outputs: int, kernel: int) -> ConvNorm:
    return ConvNorm(inputs, outputs, kernel, "batch")
