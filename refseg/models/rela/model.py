r"""ReLA: region-based referring segmentation of one, several or no objects.

Liu, Ding, Jiang: GRES: Generalized Referring Expression Segmentation, CVPR 2023.

    picture -> vision F_i -> pixel decoder F_m ---------------------------.
                  \   \                                                     \
                   \   `----> RIA: P x P regions F'_r -.                     > masks M_r^n --.
                    \                                   > RLA -> F_r -> filters, x_r ---------+-> M = sum_n x_r^n M_r^n
    sentence -> text F_t ------------------------------'          `-> mean -> no target E

Ours <-> the paper: `regions` P, `width` C, `RegionState.regions` F'_r, `mask_features` F_m, `filters` F_f, minimap x_r,
no_target E. Three wirings share this file: the paper's (`RegionDecoder`), the released weights' and the camera-ready
branch's (`MaskedRegionDecoder`); see `rela_config.py` for the presets.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.errors import RefsegError
from refseg.models.photo.color_maps import colour_maps
from refseg.models.rela.config import DeformableConfig, ReLAConfig
from refseg.models.rela.masked_regions import MaskedRegionDecoder, MaskedState
from refseg.models.rela.region_heads import RegionPrediction
from refseg.models.rela.regions import (
    COLOUR_MAPS,
    TAG_MAPS,
    HardSplitConfig,
    RegionDecoder,
    RegionDecoderConfig,
    RegionState,
)
from refseg.nn.losses import dice_loss, minimap_targets, resize_logits, resize_masks, weighted_cross_entropy
from refseg.nn.pixel_word import LanguageStages
from refseg.nn.pyramid import DeformablePyramid, FeaturePyramid
from refseg.nn.tags import tag_head, tag_losses
from refseg.types import Batch, Output, Targets, TextFeatures, Tokens

__all__ = ["ReLA", "ReLAState", "build_rela"]


class ReLAState(NamedTuple):
    """N pictures, encoded once for all their sentences."""

    relation: RegionState | MaskedState
    tag_logits: Float[Tensor, "N T h w"] | None = None


class ReLA(nn.Module):
    """The model; `build_rela` wires its parts. `late_fusion` says whether pictures are encoded without the sentence."""

    def __init__(
        self,
        config: ReLAConfig,
        vision: Any,
        text: Any,
        pixel_decoder: DeformablePyramid | FeaturePyramid,
        relation: RegionDecoder | MaskedRegionDecoder,
        language_stages: LanguageStages | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.vision = vision
        self.language_stages = language_stages
        self.text = text
        self.pixel_decoder = pixel_decoder
        self.relation = relation
        self.late_fusion = language_stages is None
        part = config.relation
        self.tags = tag_head(config.width, config.tags)
        self.matched_tags = config.tags if isinstance(part, RegionDecoderConfig) and part.tag_matches else ()
        hard = isinstance(part, RegionDecoderConfig) and isinstance(part.ria, HardSplitConfig)
        self.split_input = hard and part.ria.split == "input"  # type: ignore[union-attr]

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4, a no-target logit, and `auxiliary`: `minimap_logits` (B, R), `region_filters`
        (B, R, C), and where they exist `tag_logits` (N, T, h, w), `attention` (B, R, L), `mask_pairs` (B, 2, h, w) and
        `earlier`, a list of the earlier layers' {mask_logits, minimap_logits, no_target_logits}."""
        text = self.encode_text(batch.tokens)
        if self.late_fusion:
            return self.decode(self.encode_image(batch.images, batch.pixel_mask), text, batch.picture)
        batch = batch.expanded()
        return self.decode(self._encode(batch.images, batch.pixel_mask, text), text)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """F_t: one vector a word."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> ReLAState:
        """What no sentence changes. Raises `RefsegError` where words enter the picture encoder."""
        if not self.late_fusion:
            raise RefsegError("this ReLA reads the sentence inside its picture encoder: call it with both")
        return self._encode(images, pixel_mask, None)

    def decode(self, state: ReLAState, text: TextFeatures, picture: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B sentences; `picture[b]` is the picture of sentence b, None means one to one."""
        found = self.relation.decode(state.relation, text, picture)  # type: ignore[arg-type]
        auxiliary: dict[str, Any] = {"minimap_logits": found.last.minimap_logits, "region_filters": found.filters}
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        if found.attention is not None:
            auxiliary["attention"] = found.attention
        if found.mask_pairs is not None:
            auxiliary["mask_pairs"] = found.mask_pairs
        if found.earlier:
            auxiliary["earlier"] = [vars(prediction) for prediction in found.earlier]
        return Output(found.last.mask_logits, found.last.no_target_logits, auxiliary=auxiliary)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Weighted losses of the mask, the minimap, the verdict, and of the earlier layers together."""
        assert output.no_target_logits is not None
        last = RegionPrediction(output.mask_logits, output.auxiliary["minimap_logits"], output.no_target_logits)
        wanted = self._wanted(targets, (output.mask_logits.shape[1], output.mask_logits.shape[2]))
        parts = self._prediction_losses(last, wanted)
        earlier = output.auxiliary.get("earlier", [])
        if earlier and self.config.losses.earlier:
            each = [self._prediction_losses(RegionPrediction(**item), wanted) for item in earlier]
            total = sum((value for part in each for value in part.values()), start=output.mask_logits.new_zeros(()))
            parts["earlier"] = self.config.losses.earlier * total
        return parts | tag_losses(output.auxiliary.get("tag_logits"), targets.tags, self.config.losses.tags)

    def _wanted(self, targets: Targets, size: tuple[int, int]) -> RegionPrediction:
        """What the predictions of all layers are held against: shares of pixels and cells, and the verdict."""
        config = self.config.losses
        masks = targets.masks.float() if config.mask_size == "input" else resize_masks(targets.masks, size)
        cells = minimap_targets(targets.masks, self.config.regions, config.minimap_target)
        return RegionPrediction(masks, cells, targets.no_target.float())

    def _prediction_losses(self, found: RegionPrediction, wanted: RegionPrediction) -> dict[str, Tensor]:
        config = self.config.losses
        classes = (config.background, config.foreground)
        masks, cells, verdict = wanted.mask_logits, wanted.minimap_logits, wanted.no_target_logits
        logits = resize_logits(found.mask_logits, (masks.shape[1], masks.shape[2]))
        parts = {"mask": config.mask * weighted_cross_entropy(logits, masks, *classes)}
        if config.dice:
            parts["dice"] = config.dice * dice_loss(logits, masks)
        if config.minimap:
            parts["minimap"] = config.minimap * weighted_cross_entropy(found.minimap_logits, cells, *classes)
        if config.no_target:
            parts["no_target"] = config.no_target * weighted_cross_entropy(found.no_target_logits, verdict, *classes)
        return parts

    def _encode(self, images: Tensor, pixel_mask: Tensor, text: TextFeatures | None) -> ReLAState:
        if self.split_input:
            maps = self._encode_patches(images)
        elif text is not None and self.language_stages is not None:
            maps = self.vision(images, self.language_stages.after_stage(text))
        else:
            maps = self.vision(images)
        if isinstance(self.config.relation, RegionDecoderConfig) and self.config.relation.colours:
            mean, std = (
                images.new_tensor(part).view(3, 1, 1) for part in (self.config.input.mean, self.config.input.std)
            )
            maps = {**maps, COLOUR_MAPS: colour_maps(images * std + mean)}
        pyramid = self.pixel_decoder(maps)
        tag_logits = None if self.tags is None else self.tags(pyramid.mask_features)
        if self.matched_tags:
            assert tag_logits is not None
            # What answers ask for leaves the tags as they are: they are taught where they hold and nothing else.
            known = tag_logits.detach().sigmoid()
            maps = {**maps, TAG_MAPS: F.adaptive_avg_pool2d(known, (maps[8].shape[2], maps[8].shape[3]))}
        return ReLAState(self.relation.encode(maps, pyramid, pixel_mask), tag_logits)

    def _encode_patches(self, images: Float[Tensor, "N 3 H W"]) -> dict[int, Float[Tensor, "N _ _ _"]]:
        """Maps of pictures whose P x P patches never saw one another (table 2, #1).

        A picture that does not divide into patches of whole 4-pixel tokens is enlarged to the next size that does.
        """
        grid = self.config.regions
        height, width = (4 * grid * math.ceil(side / (4 * grid)) for side in images.shape[-2:])
        if (height, width) != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
        patches = images.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5)
        maps = self.vision(patches.flatten(0, 2))
        joined = {}
        for stride, each in maps.items():
            cells = each.unflatten(0, (-1, grid, grid)).permute(0, 3, 1, 4, 2, 5)
            joined[stride] = cells.flatten(4, 5).flatten(2, 3)
        return joined


def build_rela(config: ReLAConfig) -> ReLA:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision: Any = build_vision(config.vision)
    text: Any = build_text(config.text)
    pixels: DeformablePyramid | FeaturePyramid
    if isinstance(config.pixel_decoder, DeformableConfig):
        part = config.pixel_decoder
        pixels = DeformablePyramid(
            vision.channels,
            config.width,
            groups=part.groups,
            layers=part.layers,
            heads=part.heads,
            points=part.points,
            ffn=part.feedforward,
        )
    else:
        plain = config.pixel_decoder
        pixels = FeaturePyramid(vision.channels, config.width, plain.groups, plain.fine_width, plain.positions)
    relation: RegionDecoder | MaskedRegionDecoder
    if isinstance(config.relation, RegionDecoderConfig):
        relation = RegionDecoder(config.relation, vision.channels, text.width, config.width, config.regions)
    else:
        relation = MaskedRegionDecoder(config.relation, text.width, config.width, config.regions)
    stages = LanguageStages(vision.channels, text.width) if config.language_in_vision else None
    return ReLA(config, vision, text, pixels, relation, stages)
