r"""The ReLAtionship block as the paper writes it (ReLA, CVPR 2023, sections 4.1 and 4.2; choices of tables 2 and 3).

    F_i --RIA(P x P region queries)--> F'_r --.--> filters F_f --------------------.
                                               `-> RLA(words F_t) -> F_r -> x_r -----+--> M = sum_n x_r^n <F_f^n, F_m>
                                                                      `-> mean -> no-target E

RIA does not see the expression: its result is kept for all expressions of an image. RLA runs once an expression.
Where the paper is silent, the docstring of a config field says what was chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveFloat, PositiveInt
from refseg.errors import ConfigError
from refseg.models.rela.relations import ParallelRLAConfig, StackedRLAConfig, build_rla
from refseg.nn.attention import MLP, attend
from refseg.nn.conv import masks_of
from refseg.nn.maps import pixel_map, word_map
from refseg.nn.pyramid import PyramidFeatures, sine_positions
from refseg.types import NamedMap, Output, Panels, TextFeatures, VisualFeatures

__all__ = [
    "HardSplitConfig",
    "RIAConfig",
    "RegionDecoder",
    "RegionDecoderConfig",
    "RegionImageAttention",
    "RegionOutput",
    "RegionPrediction",
    "RegionState",
    "output_of",
    "region_maps",
]


@dataclass(frozen=True)
class RIAConfig(Config):
    """Region-Image Cross Attention, equation 2; the defaults are the equation as it stands."""

    heads: PositiveInt = 1
    """Attention maps a region."""
    scale: bool = False
    """Divide products by the root of a head's channels, which the equation does not."""
    positions: bool = False
    """Add sine positions to the pixels that make the keys, and those of the P x P grid to the queries."""
    query: Literal["learned", "cell"] = "learned"
    """cell: a region's query is its learnt vector plus a linear map of the mean pixel of its cell."""
    residual: bool = False
    """F'_r = LayerNorm(query + attended) instead of what is attended alone."""


@dataclass(frozen=True)
class HardSplitConfig(Config):
    """Regions are the cells of a rigid grid (table 2, #1 and #2); nothing is attended."""

    split: Literal["decoder", "input"] = "decoder"
    """decoder: the feature map is averaged in P x P cells. input: the image is cut into P x P patches which the
    encoder sees one by one (its maps are put together again), then averaged."""


@dataclass(frozen=True)
class RegionDecoderConfig(Config):
    """The paper's block; the defaults are the paper's, as far as it says."""

    source: Literal["encoder", "pixel_decoder"] = "encoder"
    """Where F_i comes from; the paper takes the encoder's features, the published code the pixel decoder's."""
    stride: Literal[8, 16, 32] = 16
    """Stride of F_i; the paper does not say which, 16 keeps more pixels than regions (30 x 30 for 10 x 10 at 480)."""
    ria: RIAConfig | HardSplitConfig = field(default_factory=RIAConfig)
    rla: ParallelRLAConfig | StackedRLAConfig = field(default_factory=ParallelRLAConfig)
    filter_from: Literal["ria", "rla"] = "ria"
    """Whether the region filters come from F'_r, as in the paper, or from F_r, which has seen the expression."""
    filter_layers: PositiveInt = 3
    """Linear layers from a region to its filter; the paper does not say, the published code has 3."""
    no_target_layers: PositiveInt = 2
    """Linear layers from the mean region to E; the paper does not say, the published code has 2."""
    weight: Literal["probability", "logit"] = "probability"
    """What weighs the region masks: the paper's probability x_r, or its logit, as in the published code."""
    mask_scale: PositiveFloat = 1.0
    """Factor on the mask logits; a small one starts training near the loss of an undecided mask."""
    mask_padding: bool = True
    """Padding words are never attended; the published code attends them as if they were real."""


@dataclass(frozen=True)
class RegionPrediction:
    """What the R regions of B expressions give together; positive logits mean foreground, target, no target."""

    mask_logits: Float[Tensor, "B h w"]
    minimap_logits: Float[Tensor, "B R"]
    no_target_logits: Float[Tensor, " B"]


@dataclass(frozen=True)
class RegionOutput:
    """The last prediction, those of earlier layers where they are supervised, and intermediate results.

    `attention` is regions over words where the decoder has such a map. `mask_pairs` holds the background and
    the foreground logit where the decoder predicts both.
    """

    last: RegionPrediction
    filters: Float[Tensor, "B R C"]
    earlier: list[RegionPrediction] = field(default_factory=list)
    attention: Float[Tensor, "B R L"] | None = None
    mask_pairs: Float[Tensor, "B 2 h w"] | None = None


class RegionState(NamedTuple):
    """What is kept of N images for all their expressions."""

    regions: Float[Tensor, "N R C"]
    """F'_r."""
    mask_features: Float[Tensor, "N C h w"]
    """F_m."""


class RegionImageAttention(nn.Module):
    """RIA: A = softmax(Q_r gelu(F_i W_k)^T), F'_r = A gelu(F_i W_v) (equation 2)."""

    def __init__(self, config: RIAConfig, regions: int, width: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"ria.heads={config.heads} does not divide width={width}")
        self.config, self.grid = config, regions
        self.queries = nn.Parameter(torch.randn(regions * regions, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.cell = nn.Linear(width, width) if config.query == "cell" else None
        self.norm = nn.LayerNorm(width) if config.residual else None

    def forward(self, maps: Float[Tensor, "N C h w"], pixel_mask: Bool[Tensor, "N H W"]) -> Float[Tensor, "N R C"]:
        """F'_r of each image; pixels that are padding are not attended."""
        height, width = maps.shape[-2:]
        pixels = maps.flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(maps), -1, -1)
        if self.cell is not None:
            queries = queries + self.cell(F.adaptive_avg_pool2d(maps, self.grid).flatten(2).transpose(1, 2))
        keys, asking = pixels, queries
        if self.config.positions:
            channels, device = maps.shape[1], maps.device
            keys = keys + sine_positions(height, width, channels, device).to(maps.dtype)
            asking = asking + sine_positions(self.grid, self.grid, channels, device).to(maps.dtype)
        keys, values = F.gelu(self.key(keys)), F.gelu(self.value(pixels))
        real = F.adaptive_max_pool2d(pixel_mask[:, None].float(), (height, width)).flatten(1) > 0
        gathered = attend(
            self._heads(asking),
            self._heads(keys),
            self._heads(values),
            real[:, None, None],
            scale=None if self.config.scale else 1.0,
        )
        gathered = gathered.transpose(1, 2).flatten(2)
        return gathered if self.norm is None else self.norm(queries + gathered)

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.config.heads, -1)).transpose(1, 2)


class RegionDecoder(nn.Module):
    """The block: RIA, RLA, and from the regions mask, minimap and no-target logit.

    `channels` are the vision encoder's by stride, `text_width` a word's channels, `width` C, `regions` P.
    """

    def __init__(
        self, config: RegionDecoderConfig, channels: dict[int, int], text_width: int, width: int, regions: int
    ) -> None:
        super().__init__()
        self.config, self.grid = config, regions
        self.project = nn.Conv2d(channels[config.stride], width, kernel_size=1) if config.source == "encoder" else None
        self.ria = RegionImageAttention(config.ria, regions, width) if isinstance(config.ria, RIAConfig) else None
        self.words = nn.Linear(text_width, width)
        self.rla = build_rla(config.rla, width)
        self.filter = MLP(width, width, config.filter_layers)
        self.minimap = nn.Linear(width, 1)
        self.no_target = MLP(width, 1, config.no_target_layers)

    def encode(self, maps: VisualFeatures, pyramid: PyramidFeatures, pixel_mask: Bool[Tensor, "N H W"]) -> RegionState:
        """F'_r and F_m of every image, which do not depend on the expression (section 4.2, equation 2)."""
        level = {32: 0, 16: 1, 8: 2}[self.config.stride]
        features = pyramid.levels[level] if self.project is None else self.project(maps[self.config.stride])
        if self.ria is not None:
            regions = self.ria(features, pixel_mask)
        else:
            regions = F.adaptive_avg_pool2d(features, self.grid).flatten(2).transpose(1, 2)
        return RegionState(regions, pyramid.mask_features)

    def decode(self, state: RegionState, text: TextFeatures, image_index: Int[Tensor, " B"] | None) -> RegionOutput:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one.

        Every layer of RLA that gives an F_r answers; the paper has one.
        """
        mask = text.mask if self.config.mask_padding else torch.ones_like(text.mask)
        layers, attention = self.rla(state.regions, self.words(text.words), mask, image_index)  # F_r (equation 3)
        # F_f and x_r of every region; the mask M = sum_n x_r^n <F_f^n, F_m> (equation 1) is <sum_n x_r^n F_f^n, F_m>,
        # one inner product a pixel.
        if self.config.filter_from == "rla":
            filters = [self.filter(related) for related in layers]
        else:
            own = self.filter(state.regions)
            filters = [own if image_index is None else own.index_select(0, image_index)] * len(layers)
        minimaps = [self.minimap(related)[..., 0] for related in layers]
        kernels = torch.stack([self._sum(*pair) for pair in zip(minimaps, filters, strict=True)], dim=1)
        masks = masks_of(kernels * self.config.mask_scale, state.mask_features, image_index)
        predictions = [
            # E: from the mean region (section 4.1, "no-target classifier").
            RegionPrediction(masks[:, index], minimaps[index], self.no_target(related.mean(dim=1))[:, 0])
            for index, related in enumerate(layers)
        ]
        return RegionOutput(predictions[-1], filters[-1], predictions[:-1], attention)

    def _sum(self, minimap: Float[Tensor, "B R"], filters: Float[Tensor, "B R C"]) -> Float[Tensor, "B C"]:
        """sum_n x_r^n F_f^n."""
        weights = minimap.sigmoid() if self.config.weight == "probability" else minimap
        return torch.einsum("br,brc->bc", weights, filters)


def region_maps(
    answers: RegionOutput,
    mask_features: Float[Tensor, "N C h w"] | None,
    image_index: Int[Tensor, " B"] | None,
    mask_scale: float = 1.0,
) -> dict[str, NamedMap]:
    """The minimap x_r, where F_m is given the region masks M_r = <F_f^n, F_m> times `mask_scale`, and what regions read
    of the words (figure 7 of the paper)."""
    minimap = answers.last.minimap_logits.sigmoid()
    side = math.isqrt(minimap.shape[1])
    names = [f"region {number + 1}: row {number // side + 1}, column {number % side + 1}" for number in range(side**2)]
    grid = minimap.unflatten(1, (side, side))
    maps = {"minimap": pixel_map("minimap x_r: the target's part in each region", grid, scale="probability")}
    if mask_features is not None:

        def masks(index: int) -> Panels:
            image = index if image_index is None else int(image_index[index])
            filters = answers.filters[index] * mask_scale
            logits = torch.einsum("rc,chw->rhw", filters, mask_features[image].to(filters.dtype))
            return Panels(logits.detach(), tuple(names), minimap[index].detach())

        maps["region_masks"] = NamedMap("region masks M_r of the regions that count most", "pixels", masks, "logit")
    if answers.attention is not None:
        maps["words"] = word_map("what regions read of the words", answers.attention, names, minimap)
    return maps


def output_of(
    answers: RegionOutput,
    tag_logits: Float[Tensor, "N T h w"] | None,
    maps: dict[str, NamedMap],
) -> Output:
    """Regions' answers as an `Output`; `maps` are `region_maps`. `auxiliary` has `minimap_logits` (B, R),
    `region_filters` (B, R, C), and where they exist `tag_logits` (N, T, h, w), `mask_pairs` (B, 2, h, w) and `earlier`,
    a list of the earlier layers' {mask_logits, minimap_logits, no_target_logits}; `attention_maps["words"]` is
    (B, R, L)."""
    auxiliary: dict[str, Any] = {"minimap_logits": answers.last.minimap_logits, "region_filters": answers.filters}
    if tag_logits is not None:
        auxiliary["tag_logits"] = tag_logits
    if answers.mask_pairs is not None:
        auxiliary["mask_pairs"] = answers.mask_pairs
    if answers.earlier:
        auxiliary["earlier"] = [vars(prediction) for prediction in answers.earlier]
    attention = {} if answers.attention is None else {"words": answers.attention}
    return Output(
        answers.last.mask_logits,
        answers.last.no_target_logits,
        auxiliary=auxiliary,
        attention_maps=attention,
        maps=maps,
    )
