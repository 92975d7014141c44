"""The ReLAtionship block as the paper writes it (ReLA, CVPR 2023, section 4.2), and the choices of its tables 2 and 3.

    F_i --RIA(P x P region queries)--> F'_r --.--> filters F_f --------------------.
                                               `-> RLA(words F_t) -> F_r -> x_r -----+--> M = sum_n x_r^n <F_f^n, F_m>
                                                                      `-> mean -> no target

RIA does not see the sentence: its result is kept for all sentences of a picture. RLA runs once a sentence.
Where the paper is silent, the docstring of a config field says what was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.models.photo.matches import (
    MATCH_FEATURES,
    RANK_FEATURES,
    TINT_FEATURES,
    BestVerdict,
    HiddenMask,
    match_features,
    rank_features,
    tint_features,
)
from refseg.models.rela.region_heads import RegionOutput, RegionPrediction, masks_of
from refseg.models.rela.relations import ParallelRLA, ParallelRLAConfig, StackedRLA, StackedRLAConfig
from refseg.nn.attention import Perceptron, attend
from refseg.nn.pyramid import PyramidFeatures, sine_positions
from refseg.types import TextFeatures

__all__ = ["HardSplitConfig", "RIAConfig", "RegionDecoder", "RegionDecoderConfig", "RegionImageAttention"]

COLOUR_MAPS = 1
"""Where the colours stand among the encoder's maps, whose keys are strides."""
TAG_MAPS = 2
"""Where the probabilities of tags at stride 8 stand among them."""


@dataclass(frozen=True)
class RIAConfig:
    """Region-Image Cross Attention, equation 2; the defaults are the equation as it stands."""

    heads: int = 1
    """Attention maps a region."""
    scale: bool = False
    """Divide products by the root of a head's channels, which the equation does not."""
    positions: bool = False
    """Add sine positions to the pixels that make the keys, and those of the P x P grid to the queries."""
    query: Literal["learned", "cell"] = "learned"
    """cell: a region's query is its learnt vector plus a linear map of the mean pixel of its cell."""
    residual: bool = False
    """F'_r = LayerNorm(query + attended) instead of what is attended alone."""

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ConfigError(f"ria.heads={self.heads}: at least 1 is wanted")


@dataclass(frozen=True)
class HardSplitConfig:
    """Regions are the cells of a rigid grid (table 2, #1 and #2); nothing is attended."""

    split: Literal["decoder", "input"] = "decoder"
    """decoder: the feature map is averaged in P x P cells. input: the picture is cut into P x P patches which the
    encoder sees one by one (its maps are put together again), then averaged."""


@dataclass(frozen=True)
class RegionDecoderConfig:
    """The ReLAtionship block and the heads; the defaults are the paper's."""

    source: Literal["encoder", "pixel_decoder"] = "encoder"
    """Where F_i comes from; the paper takes the encoder's features, the published code the pixel decoder's."""
    stride: Literal[8, 16, 32] = 16
    """Stride of F_i; the paper does not say which, 16 keeps more pixels than regions (30 x 30 for 10 x 10 at 480)."""
    ria: RIAConfig | HardSplitConfig = field(default_factory=RIAConfig)
    rla: ParallelRLAConfig | StackedRLAConfig = field(default_factory=ParallelRLAConfig)
    filter_from: Literal["ria", "rla"] = "ria"
    """Whether the region filters come from F'_r, as in the paper, or from F_r, which has seen the sentence."""
    filter_layers: int = 3
    """Linear layers from a region to its filter; the paper does not say, the published code has 3."""
    no_target_layers: int = 2
    """Linear layers from the mean region to the verdict; the paper does not say, the published code has 2."""
    weight: Literal["probability", "logit"] = "probability"
    """What weighs the region masks: the paper's probability x_r, or its logit, as in the published code."""
    mask_scale: float = 1.0
    """Factor on the mask logits; a small one starts training near the loss of an undecided mask."""
    sentence_filter: bool = False
    """Add a linear map of the sentence to the sum of the filters, so that words reach the mask directly too. Neither
    paper nor code does; small data is learnt from faster with it."""
    classes: int = 0
    """Classes of a detector in the encoder: the last channels of the sentence are its shares in them, and the product
    with the detector's probabilities tells regions and pixels how well they fit its nouns. A match means the same for
    every class, so that what is learnt of it from cats holds for trucks. 0 has none."""
    colours: bool = False
    """The sentence's shares end with those in the names of colours (`refseg.models.photo.color_maps`), whose product
    with a picture's own colours tells regions and pixels how well they fit its adjectives. Needs `classes`."""
    tag_matches: bool = False
    """The sentence's shares in classes go on with those in the model's tags, whose maps stand beside the detector's:
    what the tags learn to see is then matched with words as well. Needs `classes` and `ReLAConfig.tags`."""
    ranks: bool = False
    """Regions are also told how many things that fit the nouns lie to their left, right, above and below, and how much
    of what fits lies around them, for words of order and size. Needs `classes`."""
    mask_hidden: int = 0
    """Hidden units of a second mask, a perceptron of F_m, the matches and the minimap, whose weights come from the
    sentence and the regions meant; it is added to the first one. One linear map of F_m can hardly say "what fits, and
    lies there". 0 has none."""
    class_offset: int = 0
    """Where the class logits begin among the encoder's channels at strides 8, 16 and 32."""
    minimap_gate: bool = False
    """Add the minimap's logits, enlarged to the mask's size, to the mask's. Neither paper nor code does. A mask that is
    one linear map of F_m hardly keeps one of two equal things apart from the other; the regions, which have seen each
    other and the words, know which one is meant."""
    verdict_of_best: bool = False
    """Add to the verdict what a perceptron says of the regions most wanted (their mean by the softmax of the minimap)
    and of how well the best place fits. The mean over all regions, which the paper takes, hardly shows small things."""
    mask_padding: bool = True
    """Padding words are never attended; the published code attends them as if they were real."""

    def __post_init__(self) -> None:
        if min(self.classes, self.class_offset, self.mask_hidden) < 0:
            raise ConfigError("relation: classes, class_offset and mask_hidden are 0 or more")
        for name in ("colours", "tag_matches", "ranks"):
            if getattr(self, name) and not self.classes:
                raise ConfigError(f"relation.{name}: needs relation.classes, beside which they are told")
        if min(self.filter_layers, self.no_target_layers) < 1:
            raise ConfigError("relation: filter_layers and no_target_layers are 1 or more")
        if self.mask_scale <= 0:
            raise ConfigError(f"relation.mask_scale={self.mask_scale}: a positive number is wanted")


class RegionState(NamedTuple):
    """What is kept of N pictures for all their sentences."""

    regions: Float[Tensor, "N R C"]
    """F'_r."""
    mask_features: Float[Tensor, "N C h w"]
    """F_m."""
    classes: Float[Tensor, "N K u v"] | None = None
    """Probabilities of the detector's classes at stride 8, the largest of all levels, where there is a detector, and
    after them those of tags, where they are matched."""
    colours: Float[Tensor, "N D u v"] | None = None
    """Shares of the names of colours at stride 8, where the decoder is told."""


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
        """F'_r of each picture; pixels that are padding are not attended."""
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
    """Regions, their relations, and the three answers.

    `channels` are the encoder's by stride, `text_width` a word's channels, `width` C, `regions` P.
    """

    def __init__(
        self, config: RegionDecoderConfig, channels: dict[int, int], text_width: int, width: int, regions: int
    ) -> None:
        super().__init__()
        self.config, self.grid = config, regions
        self.project = nn.Conv2d(channels[config.stride], width, kernel_size=1) if config.source == "encoder" else None
        self.ria = RegionImageAttention(config.ria, regions, width) if isinstance(config.ria, RIAConfig) else None
        self.words = nn.Linear(text_width, width)
        self.rla: ParallelRLA | StackedRLA
        if isinstance(config.rla, ParallelRLAConfig):
            self.rla = ParallelRLA(config.rla, width)
        else:
            self.rla = StackedRLA(config.rla, width)
        self.filter = Perceptron(width, width, config.filter_layers)
        self.sentence = nn.Linear(text_width, width) if config.sentence_filter else None
        if self.sentence is not None:
            nn.init.zeros_(self.sentence.weight)
            nn.init.zeros_(self.sentence.bias)
        told = MATCH_FEATURES + TINT_FEATURES * config.colours + RANK_FEATURES * config.ranks
        self.match = nn.Linear(told, width) if config.classes else None
        if self.match is not None:
            self.match_scale = nn.Parameter(torch.zeros(1))
            self.tint_scale = nn.Parameter(torch.zeros(1)) if config.colours else None
            self.match_weights = nn.Linear(text_width, told)
            nn.init.zeros_(self.match_weights.weight)
            nn.init.zeros_(self.match_weights.bias)
        maps = bool(config.classes) + config.colours + 1  # matches, colours, minimap
        self.hidden = HiddenMask(config.mask_hidden, width, text_width, maps) if config.mask_hidden else None
        self.minimap = nn.Linear(width, 1)
        self.no_target = Perceptron(width, 1, config.no_target_layers)
        self.verdict = BestVerdict(width, told if config.classes else 0) if config.verdict_of_best else None

    def encode(
        self, maps: dict[int, Float[Tensor, "N _ _ _"]], pyramid: PyramidFeatures, pixel_mask: Bool[Tensor, "N H W"]
    ) -> RegionState:
        """What does not depend on the sentence: F'_r of every picture."""
        level = {32: 0, 16: 1, 8: 2}[self.config.stride]
        features = pyramid.levels[level] if self.project is None else self.project(maps[self.config.stride])
        if self.ria is not None:
            regions = self.ria(features, pixel_mask)
        else:
            regions = F.adaptive_avg_pool2d(features, self.grid).flatten(2).transpose(1, 2)
        colours = maps[COLOUR_MAPS] if self.config.colours else None
        return RegionState(regions, pyramid.mask_features, self._class_maps(maps), colours)

    def _class_maps(self, maps: dict[int, Float[Tensor, "N _ _ _"]]) -> Float[Tensor, "N K u v"] | None:
        if not self.config.classes:
            return None
        start = self.config.class_offset
        levels = [maps[stride][:, start : start + self.config.classes].sigmoid() for stride in (8, 16, 32)]
        size = levels[0].shape[-2:]
        found = torch.stack([levels[0], *(F.interpolate(level, size=size) for level in levels[1:])]).amax(dim=0)
        return torch.cat([found, maps[TAG_MAPS].to(found.dtype)], dim=1) if self.config.tag_matches else found

    def _matches(
        self, state: RegionState, text: TextFeatures, picture: Int[Tensor, " B"] | None
    ) -> tuple[Float[Tensor, "B u v"], Float[Tensor, "B u v"] | None]:
        """How well every pixel of stride 8 fits the classes that a sentence names, and the colours."""
        assert state.classes is not None
        last = 0 if state.colours is None else state.colours.shape[1]
        classes = state.classes.shape[1]
        first = text.sentence.shape[1] - last - classes
        shares = text.sentence[:, first : first + classes]
        matches = masks_of(shares[:, None], state.classes, picture)[:, 0]
        if state.colours is None:
            return matches, None
        return matches, masks_of(text.sentence[:, None, first + classes :], state.colours, picture)[:, 0]

    def decode(self, state: RegionState, text: TextFeatures, picture: Int[Tensor, " B"] | None) -> RegionOutput:
        """The answers to B sentences; `picture[b]` is the picture of sentence b, None means one to one."""
        seen = state.regions if picture is None else state.regions[picture]
        features: Tensor | None = None
        matches: Tensor | None = None
        tints: Tensor | None = None
        if self.match is not None:
            matches, tints = self._matches(state, text, picture)
            features = match_features(F.adaptive_max_pool2d(matches[:, None], self.grid)[:, 0])
            if tints is not None:
                tinted = F.adaptive_avg_pool2d(tints[:, None].float(), self.grid).flatten(1)
                features = torch.cat([features, tint_features(tinted, features[..., 1])], dim=2)
            if self.config.ranks:
                features = torch.cat([features, rank_features(matches, features[..., 1], self.grid)], dim=2)
            seen = seen + self.match(features)
            directly = torch.einsum("brf,bf->br", features, self.match_weights(text.sentence))
        words = self.words(text.words)
        mask = text.mask if self.config.mask_padding else torch.ones_like(text.mask)
        layers, attention = self.rla(seen, words, mask)
        early = self.filter(seen) if self.config.filter_from == "ria" else None
        filters = [self.filter(regions) if early is None else early for regions in layers]
        minimaps = [self.minimap(regions)[..., 0] for regions in layers]
        if matches is not None:
            minimaps = [minimap + directly for minimap in minimaps]
        weights = [m.sigmoid() if self.config.weight == "probability" else m for m in minimaps]
        kernels = torch.stack([torch.einsum("br,brc->bc", *pair) for pair in zip(weights, filters, strict=True)], dim=1)
        if self.sentence is not None:
            kernels = kernels + self.sentence(text.sentence)[:, None] / self.config.mask_scale
        masks = masks_of(kernels * self.config.mask_scale, state.mask_features, picture)
        cells = torch.stack(minimaps, dim=1).unflatten(2, (self.grid, self.grid))
        if self.config.minimap_gate:
            masks = masks + F.interpolate(cells, size=masks.shape[-2:], mode="bilinear", align_corners=False)
        size, maps = masks.shape[-2:], []
        for fits, scale in ((matches, "match_scale"), (tints, "tint_scale")):
            if fits is not None:
                maps.append(F.interpolate(fits[:, None], size=size, mode="bilinear", align_corners=False))
                masks = masks + getattr(self, scale) * maps[-1]
        if self.hidden is not None:
            maps.append(F.interpolate(cells[:, -1:], size=size, mode="bilinear", align_corners=False))
            more = self.hidden(kernels[:, -1], text.sentence, state.mask_features, torch.cat(maps, dim=1), picture)
            masks = torch.cat([masks[:, :-1], masks[:, -1:] + more[:, None]], dim=1)
        predictions = [
            RegionPrediction(masks[:, index], minimaps[index], self._verdict(regions, minimaps[index], features))
            for index, regions in enumerate(layers)
        ]
        return RegionOutput(predictions[-1], filters[-1], predictions[:-1], attention)

    def _verdict(
        self, regions: Float[Tensor, "B R C"], minimap: Float[Tensor, "B R"], features: Float[Tensor, "B R F"] | None
    ) -> Float[Tensor, " B"]:
        """The logit of "nothing is meant"."""
        verdict = self.no_target(regions.mean(dim=1))[:, 0]
        return verdict if self.verdict is None else verdict + self.verdict(regions, minimap, features)
