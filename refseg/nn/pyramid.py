"""Pixel decoders: from an encoder's four maps to one fine map for masks and three coarse ones for attention."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.nn.conv import ConvNorm, group_norm, pointwise
from refseg.nn.deformable import DeformableAttention, Sizes

__all__ = ["DeformablePyramid", "FeaturePyramid", "PyramidFeatures"]

COARSE_STRIDES = (32, 16, 8)
FINE_STRIDE = 4
WAVES = 24
"""Channels of `waves`: sine and cosine of six wavelengths along two axes."""


class PyramidFeatures(NamedTuple):
    """What a pixel decoder puts out; every map has the decoder's width C."""

    mask_features: Float[Tensor, "B C h4 w4"]
    """At stride 4: masks are inner products with these."""
    levels: list[Float[Tensor, "B C h w"]]
    """At strides 32, 16 and 8, in that order."""


class FeaturePyramid(nn.Module):
    """A plain feature pyramid (Lin et al., CVPR 2017): lateral 1x1, upsample and add, smooth with 3x3, all normalised.

    `channels` are the encoder's by stride; `fine_width` the channels of the stride-4 step, where most of the time goes
    (None: as wide as the rest). With `positions`, each level has sines of its pixels' places before it is smoothed.
    """

    def __init__(
        self,
        channels: dict[int, int],
        width: int = 256,
        groups: int = 32,
        fine_width: int | None = None,
        positions: bool = False,
    ) -> None:
        super().__init__()
        fine_width = width if fine_width is None else fine_width
        widths = dict.fromkeys(COARSE_STRIDES, width) | {FINE_STRIDE: fine_width}
        self.laterals = nn.ModuleDict()
        self.outputs = nn.ModuleDict()
        for stride in (*COARSE_STRIDES, FINE_STRIDE):
            here = widths[stride]
            self.laterals[str(stride)] = ConvNorm(channels[stride], here, 1, "group", relu=False, groups=groups)
            self.outputs[str(stride)] = ConvNorm(here, here, 3, "group", groups=groups)
        self.places = nn.ModuleDict()
        if positions:
            for stride, here in widths.items():
                self.places[str(stride)] = nn.Linear(WAVES, here, bias=False)
        self.narrow = nn.Identity() if fine_width == width else nn.Conv2d(width, fine_width, kernel_size=1)
        self.mask_features = nn.Conv2d(fine_width, width, kernel_size=1)

    def forward(self, maps: dict[int, Float[Tensor, "B _ _ _"]]) -> PyramidFeatures:
        """`maps` by stride (4, 8, 16, 32) from the encoder."""
        levels: list[Tensor] = []
        above: Tensor | None = None
        for stride in COARSE_STRIDES:
            above = self._step(stride, maps[stride], above)
            levels.append(above)
        assert above is not None
        fine = self._step(FINE_STRIDE, maps[FINE_STRIDE], self.narrow(above))
        return PyramidFeatures(pointwise(self.mask_features, fine), levels)

    def _step(self, stride: int, encoded: Tensor, above: Tensor | None) -> Tensor:
        lateral = self.laterals[str(stride)](encoded)
        if above is not None:
            lateral = lateral + F.interpolate(above, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        if len(self.places):
            height, width = lateral.shape[-2:]
            place = self.places[str(stride)](waves(height, width, lateral.device))
            lateral = lateral + place.T.view(1, -1, height, width)
        return self.outputs[str(stride)](lateral)


class DeformableLayer(nn.Module):
    """Deformable attention over all maps, then a perceptron; both residual and normalised afterwards."""

    def __init__(self, width: int, heads: int, levels: int, points: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(width, heads, levels, points)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, ffn)
        self.linear2 = nn.Linear(ffn, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self,
        pixels: Float[Tensor, "B T C"],
        positions: Float[Tensor, "T C"],
        sizes: Sizes,
    ) -> Float[Tensor, "B T C"]:
        """`pixels` of all maps, map after map; `positions` are added to the queries alone."""
        attended = self.self_attn(pixels + positions, pixels, sizes)
        pixels = self.norm1(pixels + attended)
        return self.norm2(pixels + self.linear2(F.relu(self.linear1(pixels), inplace=True)))


class DeformablePyramid(nn.Module):
    """Mask2Former's pixel decoder (Cheng et al., CVPR 2022): deformable attention over strides 32, 16 and 8, then one
    step of a feature pyramid to stride 4.

    `channels` are the encoder's by stride; `layers` of attention with `heads` heads, `points` points a head and map and
    `ffn` hidden units; `groups` of the normalisation after every convolution.
    """

    def __init__(
        self,
        channels: dict[int, int],
        width: int = 256,
        groups: int = 32,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        ffn: int = 1024,
    ) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"width={width}: sine positions need a multiple of 4")
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels[stride], width, kernel_size=1), group_norm(width, groups))
            for stride in COARSE_STRIDES
        )
        for convolution in (module for module in self.input_proj.modules() if isinstance(module, nn.Conv2d)):
            nn.init.xavier_uniform_(convolution.weight)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        self.level_embed = nn.Parameter(torch.randn(len(COARSE_STRIDES), width))
        self.layers = nn.ModuleList(
            DeformableLayer(width, heads, len(COARSE_STRIDES), points, ffn) for _ in range(layers)
        )
        self.lateral = ConvNorm(channels[FINE_STRIDE], width, 1, "group", relu=False, groups=groups)
        self.smooth = ConvNorm(width, width, 3, "group", groups=groups)
        self.mask_features = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, maps: dict[int, Float[Tensor, "B _ _ _"]]) -> PyramidFeatures:
        """`maps` by stride (4, 8, 16, 32) from the encoder."""
        projected = []
        for projection, stride in zip(self.input_proj, COARSE_STRIDES, strict=True):
            convolution, norm = projection.children()
            assert isinstance(convolution, nn.Conv2d)
            projected.append(norm(pointwise(convolution, maps[stride])))
        sizes = tuple((level.shape[2], level.shape[3]) for level in projected)
        width, device = projected[0].shape[1], projected[0].device
        positions = torch.cat(
            [sine_positions(*size, width, device) + embed for size, embed in zip(sizes, self.level_embed, strict=True)]
        )
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in projected], dim=1)
        for layer in self.layers:
            pixels = layer(pixels, positions, sizes)
        levels = [
            part.transpose(1, 2).unflatten(2, size)
            for part, size in zip(pixels.split([h * w for h, w in sizes], dim=1), sizes, strict=True)
        ]
        fine = self.lateral(maps[FINE_STRIDE])
        fine = fine + F.interpolate(levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return PyramidFeatures(pointwise(self.mask_features, self.smooth(fine)), levels)


@lru_cache(maxsize=32)
def waves(height: int, width: int, device: torch.device) -> Float[Tensor, "T W"]:
    """Where pixels lie: sines and cosines of row and column, of half a period to 16 periods a picture."""
    with torch.inference_mode(False):
        axes = []
        for length in (height, width):
            places = (torch.arange(length, dtype=torch.float32) + 0.5) / length
            angles = places[:, None] * torch.pi * 2.0 ** torch.arange(WAVES // 4)
            axes.append(torch.cat([angles.sin(), angles.cos()], dim=-1))
        rows = axes[0][:, None].expand(height, width, WAVES // 2)
        columns = axes[1][None].expand(height, width, WAVES // 2)
        return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(device)


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Float[Tensor, "T C"]:
    """Sines and cosines of a pixel's row (first half of the channels) and column, both scaled to (0, 2 pi]."""
    with torch.inference_mode(False):
        half = channels // 2
        frequencies = 10000 ** (-2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
        axes = []
        for length in (height, width):
            places = torch.arange(1, length + 1, dtype=torch.float32) / (length + 1e-6) * (2 * torch.pi)
            angles = places[:, None] * frequencies
            axes.append(torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=-1).flatten(1))
        rows = axes[0][:, None].expand(height, width, half)
        columns = axes[1][None].expand(height, width, half)
        return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(device)
