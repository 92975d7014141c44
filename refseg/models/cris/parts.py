"""CRIS's parts: the cross-modal neck, the vision-language decoder, and the projector of text-to-pixel contrast."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.glove_transformer import sinusoidal_positions
from refseg.models.cris.config import CRISConfig
from refseg.nn.attention import Attention
from refseg.nn.conv import ConvNorm
from refseg.nn.parts import Part, rows_of
from refseg.types import VisualFeatures

__all__ = ["Neck", "Projector", "VLDecoder", "corner_coordinates"]


class RowNorm(nn.Module):
    """Batch normalisation over rows, or with norm = group a group normalisation of each."""

    def __init__(self, config: CRISConfig, channels: int) -> None:
        super().__init__()
        grouped = config.norm == "group"
        self.norm = nn.GroupNorm(config.groups, channels) if grouped else nn.BatchNorm1d(channels)

    def forward(self, rows: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The rows normalised."""
        return self.norm(rows)


class Neck(nn.Module):
    """Three maps and the sentence to one at stride 16; `pictures` is what no expression changes, `forward` the rest."""

    def __init__(self, config: CRISConfig, channels: dict[int, int], sentence: int) -> None:
        super().__init__()
        (fine, coarse), width = config.neck, config.width

        def conv(inputs: int, outputs: int, kernel: int) -> ConvNorm:
            return ConvNorm(inputs, outputs, kernel, config.norm, groups=config.groups)

        self.sentence = nn.Linear(sentence, coarse, bias=False)
        self.sentence_norm = RowNorm(config, coarse)
        self.project_5, self.project_4, self.project_3 = (
            conv(channels[32], coarse, 1),
            conv(channels[16], width, 3),
            conv(channels[8], fine, 3),
        )
        self.fused_norm = nn.GroupNorm(config.groups, coarse) if config.norm == "group" else nn.BatchNorm2d(coarse)
        self.join_4, self.join_3 = conv(coarse + width, width, 1), conv(fine + width, width, 1)
        self.out_5, self.out_4, self.out_3 = conv(coarse, width, 3), conv(width, width, 3), conv(width, width, 3)
        self.aggregate = conv(3 * width, width, 1)
        self.locate, self.smooth = conv(width + 2, width, 3), conv(width, width, 3)

    def pictures(self, maps: VisualFeatures) -> VisualFeatures:
        """The maps at strides 8, 16 and 32, projected; that of stride 8 by means of 2x2 at stride 16."""
        return {
            8: F.avg_pool2d(self.project_3(maps[8]), 2),
            16: self.project_4(maps[16]),
            32: self.project_5(maps[32]),
        }

    def forward(
        self, maps: VisualFeatures, sentence: Float[Tensor, "B S"], image_index: Int[Tensor, " B"] | None
    ) -> Float[Tensor, "B C h w"]:
        """F_v, the fused map at stride 16, with coordinates. `maps` are those of `pictures`."""
        scale = F.relu(self.sentence_norm(self.sentence(sentence)))
        fused_5 = F.relu(self.fused_norm(rows_of(maps[32], image_index) * scale[:, :, None, None]))
        fused_4 = self.join_4([Part(maps[16], image_index), Part(_twice(fused_5))])
        fused_3 = self.join_3([Part(maps[8], image_index), Part(fused_4)])
        levels = [self.out_3(fused_3), self.out_4(fused_4), _twice(self.out_5(fused_5))]
        fused = self.aggregate([Part(level) for level in levels])
        grid = corner_coordinates(fused)
        return self.smooth(self.locate([Part(fused), Part(grid)]))


class VLDecoderLayer(nn.Module):
    """Pixels look at pixels, then at words, then a feed-forward network; every step is normalised before and, but for
    the last, behind, and the network between its layers."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = (Attention(width, heads, dropout) for _ in range(2))
        self.norm1, self.norm2, self.norm3, self.self_norm, self.cross_norm = (nn.LayerNorm(width) for _ in range(5))
        self.inner, self.inner_norm = nn.Linear(width, feedforward), nn.LayerNorm(feedforward)
        self.outer = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        pixels: Float[Tensor, "B T C"],
        words: Float[Tensor, "B L C"],
        pixel_positions: Float[Tensor, "T C"],
        word_positions: Float[Tensor, "L C"],
        mask: Bool[Tensor, "B L"],
    ) -> Float[Tensor, "B T C"]:
        """The pixels after the layer; `mask` is True on real words. Values carry no positions."""
        normal = self.norm1(pixels)
        placed = normal + pixel_positions
        pixels = pixels + self.dropout(self.self_norm(self.self_attention(placed, placed, normal)))
        queries = self.norm2(pixels) + pixel_positions
        found = self.cross_attention(queries, words + word_positions, words, mask[:, None])
        pixels = pixels + self.dropout(self.cross_norm(found))
        hidden = self.inner_norm(self.dropout(F.relu(self.inner(self.norm3(pixels)))))
        return pixels + self.dropout(self.outer(hidden))


class VLDecoder(nn.Module):
    """F_c: the fused map after n layers and a last normalisation."""

    def __init__(self, config: CRISConfig) -> None:
        super().__init__()
        sizes = config.decoder
        self.layers = nn.ModuleList(
            VLDecoderLayer(config.width, sizes.heads, sizes.feedforward, sizes.dropout) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, fused: Float[Tensor, "B C h w"], words: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"]
    ) -> Float[Tensor, "B C h w"]:
        """The map in which pixels have read the words."""
        channels, height, width = fused.shape[1:]
        columns, rows = (sinusoidal_positions(side, channels // 2).to(fused) for side in (width, height))
        grid = torch.cat([columns[None].expand(height, -1, -1), rows[:, None].expand(-1, width, -1)], dim=2).flatten(
            0, 1
        )
        numbers = sinusoidal_positions(words.shape[1], channels).to(fused)
        pixels = fused.flatten(2).transpose(1, 2)
        for layer in self.layers:
            pixels = layer(pixels, words, grid, numbers, mask)
        return self.norm(pixels).transpose(1, 2).unflatten(2, (height, width))


class Projector(nn.Module):
    """Pixels at stride 4 and, of each expression, a kernel and a bias: their correlation is the logit of the mask."""

    def __init__(self, config: CRISConfig, sentence: int) -> None:
        super().__init__()
        width, half = config.width, config.width // 2
        self.kernel = config.kernel
        self.first = ConvNorm(width, width, 3, config.norm, groups=config.groups)
        self.second = ConvNorm(width, half, 3, config.norm, groups=config.groups)
        self.pixels = nn.Conv2d(half, half, kernel_size=1)
        self.text = nn.Linear(sentence, half * config.kernel**2 + 1)

    def forward(self, decoded: Float[Tensor, "B C h w"], sentence: Float[Tensor, "B S"]) -> Float[Tensor, "B u v"]:
        """z_v correlated with z_t: mask logits, four times as large as the map."""
        pixels = self.pixels(self.second(_twice(self.first(_twice(decoded)))))
        count, channels = pixels.shape[:2]
        text = self.text(sentence)
        kernels = text[:, :-1].unflatten(1, (channels, self.kernel, self.kernel))
        maps = F.conv2d(pixels.flatten(0, 1)[None], kernels, bias=text[:, -1], padding=self.kernel // 2, groups=count)
        return maps[0]


def corner_coordinates(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 2 h w"]:
    """The column and the row of each place, -1 at the centre of the first and 1 at that of the last."""
    height, width = maps.shape[2:]
    columns, rows = (torch.linspace(-1, 1, side, device=maps.device, dtype=maps.dtype) for side in (width, height))
    grid = torch.stack([columns[None].expand(height, width), rows[:, None].expand(height, width)])
    return grid.expand(len(maps), -1, -1, -1)


def _twice(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C u v"]:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
