"""The region decoder of ReLA's published code: nine layers of masked attention over three scales (Mask2Former's
decoder), with one step in which regions read the words.

    X = learnt regions; for layer i, scale l = i mod 3 (1/32, 1/16, 1/8):
      RIA       X <- LN(X + attention(X + e, pixels_l + positions_l, pixels_l)), only inside the region's mask so far
      language  main, i = 0:  X <- X + 0.1 sigmoid(s) LN(X + attention(X, words, words))
      regions   X <- LN(X + attention(X + e, X + e, X))
      FFN       X <- LN(X + W2 relu(W1 X))
    camera ready, at the end:  R = X + 0.1 sigmoid(s) W (LN(X + attention(X, words)) + LN(X + attention(X, X)))
    minimap and no-target logits come from R (main: X), region filters from X

How it differs from the paper: all of `regions.py` against this; in short, the order of the steps, masked multi-head
attention instead of equation 2, logit pairs (background, foreground) instead of one probability a region, filters that
have seen the expression (main), the mean of the regions' no-target logits instead of the logit of the mean region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveFloat, PositiveInt
from refseg.models.rela.regions import RegionOutput, RegionPrediction
from refseg.nn.attention import MLP, Attention, FeedForward
from refseg.nn.conv import masks_of
from refseg.nn.pyramid import PyramidFeatures, sine_positions
from refseg.precision import answering_in_float32
from refseg.types import TextFeatures, VisualFeatures

__all__ = ["MaskedRegionDecoder", "MaskedRegionDecoderConfig"]

SCALES = 3


@dataclass(frozen=True)
class MaskedRegionDecoderConfig(Config):
    """Sizes of the published decoder; the defaults are the released weights'."""

    layers: PositiveInt = 9
    """Layers; they take the three scales in turn."""
    heads: PositiveInt = 8
    """Heads of every attention."""
    feedforward: PositiveInt = 2048
    """Hidden units of the feed-forward networks."""
    language: Literal["first_layer", "last"] = "first_layer"
    """first_layer: branch main, the released weights. last: branch original, of the camera-ready paper."""
    language_factor: PositiveFloat = 0.1
    """Factor on what the words add, beside a learnt one; keeps the start of training calm."""
    filter_layers: PositiveInt = 3
    """Linear layers from a region to its filter."""
    no_target_layers: PositiveInt = 2
    """Linear layers from a region to its no-target logits."""
    mask_padding: bool = False
    """Padding words are attended as if they were real in the published code; True leaves them out."""


class MaskedState(NamedTuple):
    """What is kept of N images for all their expressions; one entry a scale in the lists."""

    mask_features: Float[Tensor, "N C h w"]
    coarse: list[Float[Tensor, "N C p"]]
    """The mask features at the scale's size: region masks there decide where RIA may look."""
    keys: list[Float[Tensor, "N p C"]]
    values: list[Float[Tensor, "N p C"]]


class Residual(nn.Module):
    """LN(X + attention(...)), as every step of the decoder has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        regions: Float[Tensor, "B R C"],
        queries: Float[Tensor, "B R C"],
        keys: Float[Tensor, "B K C"],
        values: Float[Tensor, "B K C"],
        mask: Bool[Tensor, "B _ K"] | None = None,
    ) -> Float[Tensor, "B R C"]:
        """The regions with what the queries gathered, normalised."""
        return self.norm(regions + self.attention(queries, keys, values, mask))


class DecoderLayer(nn.Module):
    """The parts of one layer; `MaskedRegionDecoder` runs them, since the language step stands between."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ria = Residual(width, heads)
        self.regions = Residual(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.norm = nn.LayerNorm(width)


class LastLanguage(nn.Module):
    """The language step of branch original, after the last layer; adds nothing at the start of training."""

    def __init__(self, width: int, heads: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.language = Residual(width, heads)
        self.regions = Residual(width, heads)
        self.project = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.project.weight)
        self.gate = nn.Parameter(torch.zeros(()))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, regions: Float[Tensor, "B R C"], words: Float[Tensor, "B L C"], mask: Bool[Tensor, "B 1 L"] | None
    ) -> Float[Tensor, "B R C"]:
        """R, normalised for the heads."""
        read = self.language(regions, regions, words, words, mask)
        related = self.regions(regions, regions, regions, regions)
        return self.norm(regions + self.factor * self.gate.sigmoid() * self.project(read + related))


class FirstLanguage(nn.Module):
    """The language step of branch main, inside layer 0."""

    def __init__(self, width: int, heads: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.language = Residual(width, heads)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(
        self, regions: Float[Tensor, "B R C"], words: Float[Tensor, "B L C"], mask: Bool[Tensor, "B 1 L"] | None
    ) -> Float[Tensor, "B R C"]:
        """The regions with a share of what they read."""
        return regions + self.factor * self.gate.sigmoid() * self.language(regions, regions, words, words, mask)


class MaskedRegionDecoder(nn.Module):
    """`text_width` a word's channels, `width` C, `regions` P; the encoder's own maps are not used."""

    answers_in_float32 = True
    """Small errors before the hard masks between the layers become other pixels after them."""

    def __init__(self, config: MaskedRegionDecoderConfig, text_width: int, width: int, regions: int) -> None:
        super().__init__()
        self.config = config
        self.regions = nn.Embedding(regions * regions, width)
        self.region_positions = nn.Embedding(regions * regions, width)
        self.scales = nn.Embedding(SCALES, width)
        self.words = nn.Linear(text_width, width, bias=False)
        nn.init.zeros_(self.words.weight)
        self.first: FirstLanguage | None = None
        self.last: LastLanguage | None = None
        if config.language == "first_layer":
            self.first = FirstLanguage(width, config.heads, config.language_factor)
        else:
            self.last = LastLanguage(width, config.heads, config.language_factor)
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.feedforward) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.filter = MLP(width, width, config.filter_layers)
        self.minimap = nn.Linear(width, 2)
        self.no_target = MLP(width, 2, config.no_target_layers)

    def encode(self, maps: VisualFeatures, pyramid: PyramidFeatures, pixel_mask: Bool[Tensor, "N H W"]) -> MaskedState:
        """What does not depend on the expression. Padding pixels are attended, as in the published code."""
        with answering_in_float32(pixel_mask.device):
            features, levels = pyramid.mask_features.float(), [level.float() for level in pyramid.levels]
            return self._encode(PyramidFeatures(features, levels))

    def _encode(self, pyramid: PyramidFeatures) -> MaskedState:
        coarse, keys, values = [], [], []
        for scale, level in enumerate(pyramid.levels):
            size = (level.shape[2], level.shape[3])
            pixels = level.flatten(2).transpose(1, 2) + self.scales.weight[scale]
            positions = sine_positions(*size, level.shape[1], level.device).to(level.dtype)
            # Resizing is linear: the resized region masks are the inner products with the resized features.
            resized = F.interpolate(pyramid.mask_features, size=size, mode="bilinear", align_corners=False)
            coarse.append(resized.flatten(2).detach())
            keys.append(pixels + positions)
            values.append(pixels)
        return MaskedState(pyramid.mask_features, coarse, keys, values)

    def decode(self, state: MaskedState, text: TextFeatures, image_index: Int[Tensor, " B"] | None) -> RegionOutput:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        with answering_in_float32(text.words.device):
            return self._decode(state, text, image_index)

    def _decode(self, state: MaskedState, text: TextFeatures, image_index: Int[Tensor, " B"] | None) -> RegionOutput:
        if image_index is not None:
            state = state._replace(
                coarse=[item[image_index] for item in state.coarse],
                keys=[item[image_index] for item in state.keys],
                values=[item[image_index] for item in state.values],
            )
        words = self.words(text.words.float())
        mask = text.mask[:, None] if self.config.mask_padding else None
        count = len(words)
        regions = self.regions.weight.expand(count, -1, -1)
        positions = self.region_positions.weight
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            scale = index % SCALES
            inside = self._inside(regions, state.coarse[scale])
            regions = layer.ria(regions, regions + positions, state.keys[scale], state.values[scale], inside)
            if self.first is not None and index == 0:
                regions = self.first(regions, words, mask)
            placed = regions + positions
            regions = layer.regions(regions, placed, placed, regions)
            regions = layer.norm(regions + layer.feed_forward(regions))
        normal = self.norm(regions)
        filters = self.filter(normal)
        related = normal if self.last is None else self.last(regions, words, mask)
        minimap = self.minimap(related)
        pairs = masks_of(torch.einsum("bra,brc->bac", minimap, filters), state.mask_features, image_index)
        no_target = self.no_target(related).mean(dim=1)
        prediction = RegionPrediction(
            pairs[:, 1] - pairs[:, 0], minimap[..., 1] - minimap[..., 0], no_target[:, 1] - no_target[:, 0]
        )
        return RegionOutput(prediction, filters, mask_pairs=pairs)

    @torch.no_grad()
    def _inside(self, regions: Float[Tensor, "B R C"], coarse: Float[Tensor, "B C p"]) -> Bool[Tensor, "B R p"]:
        """Where each region's own mask is not negative; a region whose mask is negative everywhere looks everywhere."""
        inside = self.filter(self.norm(regions)) @ coarse >= 0
        return inside | ~inside.any(dim=-1, keepdim=True)
