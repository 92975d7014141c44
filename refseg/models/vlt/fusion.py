"""VLT's vision features and their fusion with the words (thesis, section 4.2.1; published code of ICCV 2021).

    maps at 1/8, 1/16, 1/32 -> one size, summed: F_vr --.-> spatial-dynamic fusion -> F_fused
    words F_t ------------------------------------------'

Everything that no expression changes is computed by `encode`, once an image; `decode` does the rest once an expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config
from refseg.nn.conv import ConvNorm
from refseg.nn.parts import Part, rows_of

__all__ = ["ConvSettings", "FusionConfig", "ProductFusion", "RawVision", "SpatialDynamicFusion", "TileFusion"]


@dataclass(frozen=True)
class FusionConfig(Config):
    """How pixels and words become F_fused (section 4.2.1, table 4.4)."""

    kind: Literal["sdf", "tile", "tile_conv4", "product"] = "sdf"
    """sdf: spatial-dynamic fusion, a language vector of its own for each place (equations 4.1 to 4.3). tile: the
    sentence beside every place, and one convolution. tile_conv4: four, which have as many parameters as those of sdf,
    as the table says: the two that sdf has over words go along columns and rows of the map. product: the published
    code of ICCV 2021, the sentence times the coarsest map, then a pyramid."""
    sentence: bool = True
    """sdf: whether the sentence is one of the language vectors, as section 4.2.1 alone has it."""
    text_kernel: Literal[1, 3] = 3
    """sdf: length of the convolutions over words. "Conv" is 3x3 there, taken as 3 for a sequence. tile_conv4: length
    of those along columns and rows."""


class ConvSettings(NamedTuple):
    """What all convolutions of a model share: the rectification's slope below 0, and batch normalisation's epsilon."""

    slope: float
    eps: float

    def conv(self, inputs: int, outputs: int, kernel: int | tuple[int, int]) -> ConvNorm:
        """Convolution without bias, batch normalisation, rectification."""
        return ConvNorm(inputs, outputs, kernel, "batch", slope=self.slope, eps=self.eps)


class Fused(NamedTuple):
    """What a fusion gives of B expressions."""

    features: Float[Tensor, "B C h w"]
    """F_fused, the encoder's input."""
    source: Float[Tensor, "B D h w"]
    """The map with language in it that queries may come from."""
    attention: Float[Tensor, "B L"] | None
    """How much the places looked at each word, on average, where they did."""


class RawVision(nn.Module):
    """F_vr: the encoder's three maps, each led to C channels, resized to the grid and summed (section 4.2.6)."""

    def __init__(self, channels: dict[int, int], width: int, stride: int, settings: ConvSettings) -> None:
        super().__init__()
        self.stride = stride
        self.laterals = nn.ModuleDict({str(s): settings.conv(channels[s], width, 1) for s in (8, 16, 32)})

    def forward(self, maps: dict[int, Float[Tensor, "N _ _ _"]]) -> Float[Tensor, "N C h w"]:
        """F_vr at the grid's stride: finer maps are averaged, coarser ones interpolated."""
        size = maps[self.stride].shape[-2:]
        total: Tensor | None = None
        for stride, lateral in self.laterals.items():
            level = lateral(maps[int(stride)])
            if int(stride) < self.stride:
                level = halved(level)
            elif int(stride) > self.stride:
                level = F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            total = level if total is None else total + level
        assert total is not None
        return total


class SpatialDynamicFusion(nn.Module):
    """SDF, equations 4.1 to 4.3: every place has a language vector of its own."""

    def __init__(self, config: FusionConfig, width: int, settings: ConvSettings) -> None:
        super().__init__()
        self.sentence = config.sentence
        self.query = settings.conv(width, width, 3)
        self.key = TextConv(width, config.text_kernel, settings)
        self.value = TextConv(width, config.text_kernel, settings)
        self.output = settings.conv(2 * width, width, 3)
        self.source_channels = width

    def encode(self, raw: Float[Tensor, "N C h w"]) -> tuple[Float[Tensor, "N C h w"], ...]:
        """F_vr and Conv(F_vr)."""
        return raw, self.query(raw)

    def decode(
        self,
        visual: tuple[Float[Tensor, "N C h w"], ...],
        words: Float[Tensor, "B L C"],
        sentence: Float[Tensor, "B C"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Fused:
        """F_fused of each expression; `mask` is True on language vectors that may be looked at, `image_index[b]` the
        image of expression b."""
        raw, queries = visual[0], rows_of(visual[1], image_index)
        if self.sentence:
            # In front, so that its neighbour is a word however much padding follows.
            words = torch.cat([sentence[:, None], words], dim=1)
            mask = F.pad(mask, (1, 0), value=True)
        words = words * mask[..., None].to(words.dtype)
        scores = queries.flatten(2).transpose(1, 2) @ self.key(words).transpose(1, 2) * words.shape[-1] ** -0.5
        attention = scores.masked_fill(~mask[:, None], float("-inf")).softmax(dim=-1)
        language = (attention @ self.value(words)).transpose(1, 2).unflatten(2, raw.shape[2:])
        fused = self.output([Part(language.to(raw.dtype)), Part(raw, image_index)])
        return Fused(fused, fused, attention[..., int(self.sentence) :].mean(dim=1))


class TextConv(nn.Module):
    """Convolution over words, batch normalisation, rectification."""

    def __init__(self, width: int, kernel: int, settings: ConvSettings) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(width, eps=settings.eps)
        self.slope = settings.slope

    def forward(self, words: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """Words that have seen their neighbours."""
        return F.leaky_relu(self.norm(self.conv(words.transpose(1, 2))), self.slope).transpose(1, 2)


class TileFusion(nn.Module):
    """The expression beside every place, and one 3x3 convolution, or the four of SDF (table 4.4)."""

    def __init__(self, config: FusionConfig, width: int, settings: ConvSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(settings.conv(2 * width, width, 3))
        if config.kind == "tile_conv4":
            kernel = config.text_kernel
            self.layers.append(settings.conv(width, width, 3))
            self.layers.append(settings.conv(width, width, (kernel, 1)))
            self.layers.append(settings.conv(width, width, (1, kernel)))
        self.source_channels = width

    def encode(self, raw: Float[Tensor, "N C h w"]) -> tuple[Float[Tensor, "N C h w"], ...]:
        """F_vr as it is."""
        return (raw,)

    def decode(
        self,
        visual: tuple[Float[Tensor, "N C h w"], ...],
        words: Float[Tensor, "B L C"],
        sentence: Float[Tensor, "B C"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Fused:
        """F_fused of each expression."""
        (raw,) = visual
        tiled = sentence[..., None, None].expand(-1, -1, *raw.shape[2:]).to(raw.dtype)
        fused = self.layers(torch.cat([tiled, rows_of(raw, image_index)], dim=1))
        return Fused(fused, fused, None)


class ProductFusion(nn.Module):
    """The published code's fusion: the expression times the coarsest map, then up to stride 16 beside the finer ones.

    `channels` are the encoder's; inner widths follow them as in the code (512 at 16, 1024 at 32).
    """

    def __init__(self, channels: dict[int, int], text_width: int, width: int, settings: ConvSettings) -> None:
        super().__init__()
        fine, middle, coarse = (channels[stride] for stride in (8, 16, 32))
        conv = settings.conv
        self.slope = settings.slope
        self.residual = nn.Sequential(conv(coarse, coarse // 2, 1), conv(coarse // 2, coarse, 3))
        self.sentence = nn.Linear(text_width, coarse)
        self.sentence_norm = nn.BatchNorm1d(coarse, eps=settings.eps)
        self.product_norm = nn.BatchNorm2d(coarse, eps=settings.eps)
        self.middle = conv(middle, middle, 1)
        self.fine = conv(fine, fine, 1)
        self.join_middle = conv(coarse + middle, middle, 1)
        self.join_fine = conv(middle + fine, middle, 1)
        self.narrow = nn.Sequential(conv(middle, middle // 2, 1), conv(middle // 2, middle, 3))
        self.reduce = conv(2 * middle, middle, 1)
        self.output = nn.Sequential(conv(coarse + middle, width, 1), conv(width, width, 1))
        self.source_channels = middle

    def encode(self, maps: dict[int, Float[Tensor, "N _ _ _"]]) -> tuple[Float[Tensor, "N _ _ _"], ...]:
        """The three maps after what no expression changes."""
        coarse = maps[32] + self.residual(maps[32])
        return coarse, self.middle(maps[16]), self.fine(halved(maps[8]))

    def decode(
        self,
        visual: tuple[Float[Tensor, "N _ _ _"], ...],
        words: Float[Tensor, "B L C"],
        sentence: Float[Tensor, "B D"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Fused:
        """F_fused of each expression, and the map that the code generates queries from."""
        coarse, middle, fine = rows_of(visual[0], image_index), visual[1], visual[2]
        language = F.leaky_relu(self.sentence_norm(self.sentence(sentence)), self.slope)
        product = F.leaky_relu(self.product_norm(coarse * language[..., None, None].to(coarse.dtype)), self.slope)
        enlarged = Part.of(product, middle.shape[2:])
        mixed = self.join_middle([enlarged, Part(middle, image_index)])
        source = self.join_fine([Part(mixed), Part(fine, image_index)])
        top = self.reduce([Part(self.narrow(source)), Part(mixed)])
        first, second = self.output
        return Fused(second(first([enlarged, Part(top)])), source, None)


def halved(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C u v"]:
    """Means of 2x2 places; of those that there are at an odd border."""
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
