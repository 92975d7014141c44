"""From fused places to the mask in VLT: the transformer (thesis, section 4.2.6), the mask decoder (section 4.2.4), and
what tables put in their places: convolutions (table 4.1) and ReLA's block.

    F_fused -> encoder -> F_ve ---.--> F_m = F_ve F_b^T -> convolutions, enlarged -> mask
    queries F_q -------> decoder -'-> F_r -> balance -> F_b

The transformer has layers of the form of Vaswani et al., NeurIPS 2017, normalised afterwards; what the library of the
published code does otherwise is in the fields of `TransformerConfig`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.glove_transformer import sinusoidal_positions
from refseg.errors import ConfigError
from refseg.models.rela.regions import HardSplitConfig, RegionDecoder, RegionDecoderConfig, RegionOutput
from refseg.models.rela.relations import StackedRLAConfig
from refseg.models.vlt.config import ConvolutionsConfig, MaskDecoderConfig, TransformerConfig
from refseg.models.vlt.fusion import ConvSettings
from refseg.nn.attention import Attention, FeedForward
from refseg.nn.conv import ConvNorm
from refseg.nn.pyramid import PyramidFeatures
from refseg.types import TextFeatures

__all__ = ["ConvolutionStack", "MaskDecoder", "MaskFeatures", "RegionHead", "Transformer", "numbered"]

MASK_STRIDE = 4
"""Of the masks of ReLA's block."""


class EncoderLayer(nn.Module):
    """Places look at one another."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, config.heads, config.dropout, config.attention_relu, config.head_width)
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=config.norm_eps) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B _ T"] | None) -> Float[Tensor, "B T C"]:
        """The places after one layer."""
        places = self.norms[0](places + self.dropout(self.attention(places, places, places, mask)))
        return self.norms[1](places + self.dropout(self.feed_forward(places)))


class DecoderLayer(nn.Module):
    """Queries look at one another, then at the places."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = (
            Attention(width, config.heads, config.dropout, config.attention_relu, config.head_width) for _ in range(2)
        )
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=config.norm_eps) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        query_mask: Bool[Tensor, "B _ Q"] | None,
        memory: Float[Tensor, "B T C"],
        memory_mask: Bool[Tensor, "B _ T"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """The queries after one layer."""
        queries = self.norms[0](queries + self.dropout(self.self_attention(queries, queries, queries, query_mask)))
        gathered = self.cross_attention(queries, memory, memory, memory_mask)
        queries = self.norms[1](queries + self.dropout(gathered))
        return self.norms[2](queries + self.dropout(self.feed_forward(queries)))


class Transformer(nn.Module):
    """Encoder over places and, where wanted, a decoder over queries."""

    def __init__(self, config: TransformerConfig, width: int, decodes: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.ModuleList(EncoderLayer(config, width) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(config, width) for _ in range(config.decoder_layers if decodes else 0)
        )

    def encode(self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        """F_ve, the memory; positions are in `places` already. `mask` is True on real places."""
        key_mask = None if mask is None else mask[:, None]
        for layer in self.encoder:
            places = layer(places, key_mask)
        return places

    def encoder_attention(
        self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B T"] | None, number: int
    ) -> Float[Tensor, "B T T"]:
        """The attention of the encoder's layer `number` (from 1), mean over its heads; arguments as for `encode`."""
        key_mask = None if mask is None else mask[:, None]
        for layer in self.encoder[: number - 1]:
            places = layer(places, key_mask)
        last = self.encoder[number - 1]
        assert isinstance(last, EncoderLayer)
        return last.attention.weights(places, places, key_mask)

    def decode(
        self,
        queries: Float[Tensor, "B Q C"],
        memory: Float[Tensor, "B T C"],
        memory_mask: Bool[Tensor, "B T"] | None,
        query_mask: Bool[Tensor, "B Q"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """F_r, the responses. Queries where `query_mask` is False are looked at by none."""
        if self.config.query_positions:
            queries = queries + numbered(queries)
        self_mask = None if query_mask is None else query_mask[:, None]
        if self.config.causal:
            count = queries.shape[1]
            before = torch.ones(count, count, dtype=torch.bool, device=queries.device).tril()
            self_mask = before[None].expand(len(queries), -1, -1) if self_mask is None else self_mask & before
        key_mask = None if memory_mask is None else memory_mask[:, None]
        for layer in self.decoder:
            queries = layer(queries, self_mask, memory, key_mask)
        return queries


def numbered(tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "N C"]:
    """Sines and cosines of the tokens' numbers from 0, of their width, type and device."""
    table = sinusoidal_positions(tokens.shape[1], tokens.shape[2])
    return table.to(tokens.device, tokens.dtype)


class MaskFeatures(nn.Module):
    """F_m: one map a query."""

    def __init__(self, config: MaskDecoderConfig, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.dense = nn.Linear(width, grid * grid) if config.source == "dense" else None

    def forward(
        self, responses: Float[Tensor, "B Q C"], memory: Float[Tensor, "B T C"], size: tuple[int, int]
    ) -> Float[Tensor, "B Q h w"]:
        """Equation 4.7, F_ve F_b^T; or rectified linear maps of the responses alone, resized to the memory's grid."""
        if self.dense is None:
            return (responses @ memory.transpose(1, 2)).unflatten(2, size)
        maps = F.relu(self.dense(responses)).unflatten(2, (self.grid, self.grid))
        if size != (self.grid, self.grid):
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return maps


class MaskDecoder(nn.Module):
    """Convolutions and enlargements by 2 (the nearest place), to one logit a cell; `ups` are the enlargements."""

    def __init__(self, config: MaskDecoderConfig, inputs: int, ups: int, settings: ConvSettings) -> None:
        super().__init__()
        self.layout, self.ups = config.layout, ups
        width = config.channels
        count = 3 + (ups if config.layout == "code" else 0)
        self.convs = nn.ModuleList(settings.conv(inputs if index == 0 else width, width, 3) for index in range(count))
        last = 3 if config.layout == "code" else 1
        self.output = nn.Conv2d(width, 1, last, padding=last // 2)

    def forward(self, maps: Float[Tensor, "B Q h w"]) -> Float[Tensor, "B u v"]:
        """Logits at 2^ups times the size."""
        first_up = 3 if self.layout == "code" else 3 - self.ups
        for index, conv in enumerate(self.convs):
            assert isinstance(conv, ConvNorm)
            maps = conv.enlarged(maps) if self.layout == "code" and index >= first_up else conv(maps)
            if self.layout == "text" and index >= first_up:
                maps = F.interpolate(maps, scale_factor=2, mode="nearest")
        return self.output(maps)[:, 0]


class ConvolutionStack(nn.Module):
    """3x3 convolutions in the place of all that the transformer is (table 4.1)."""

    def __init__(self, config: ConvolutionsConfig, width: int, settings: ConvSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(settings.conv(width if index == 0 else config.hidden, config.hidden, 3) for index in range(config.depth))
        )

    def forward(self, fused: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Features of the mask."""
        return self.layers(fused)


class RegionHead(nn.Module):
    """ReLA's block on fused places of stride `stride`: VLT+ReLA of GRES (Liu, Ding, Jiang, CVPR 2023, table 5).

    F_ve --.-> region-image attention -> regions -> relations with the words -> x_r, E
           `-> two convolutions, each enlarged by 2 -> F_m -> mask

    The paper says that the block replaces VLT's decoder part, and no more. Here it stands behind the encoder, in the
    place of queries, decoder, balance and mask decoder; F_m comes from F_ve alone, as VLT's mask decoder reads no map
    of the vision encoder.
    """

    def __init__(
        self,
        config: RegionDecoderConfig,
        text_width: int,
        width: int,
        regions: int,
        stride: int,
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        if isinstance(config.rla, StackedRLAConfig) and config.rla.deep_supervision:
            raise ConfigError("mask_decoder.rla.deep_supervision: VLT supervises the last answer alone; set false")
        if isinstance(config.ria, HardSplitConfig) and config.ria.split == "input":
            raise ConfigError('mask_decoder.ria.split: VLT\'s encoder sees the whole picture; choose "decoder"')
        self.ups = (stride // MASK_STRIDE).bit_length() - 1
        self.refine = nn.ModuleList(settings.conv(width, width, 3) for _ in range(self.ups))
        self.mask_features = nn.Conv2d(width, width, kernel_size=1)
        self.decoder = RegionDecoder(config, {config.stride: width}, text_width, width, regions)

    def forward(self, maps: Float[Tensor, "B C h w"], mask: Bool[Tensor, "B h w"], text: TextFeatures) -> RegionOutput:
        """The block's answers to B expressions; `mask` is True on real places of F_ve."""
        fine = maps
        for conv in self.refine:
            fine = F.interpolate(conv(fine), scale_factor=2, mode="nearest")
        pyramid = PyramidFeatures(self.mask_features(fine), [maps, maps, maps])
        state = self.decoder.encode({self.decoder.config.stride: maps}, pyramid, mask)
        return self.decoder.decode(state, text, None)
