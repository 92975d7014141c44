r"""ReLA: region-based referring segmentation of one, several or no objects.

Liu, Ding, Jiang: GRES: Generalized Referring Expression Segmentation, CVPR 2023.

    image -> vision F_i -> pixel decoder F_m ----------------------------.
                 \                                                       > masks M_r^n --.
                  `-----> RIA: P x P regions F'_r -.                    /                |
                                                    > RLA -> F_r -> filters, x_r --------+-> M = sum_n x_r^n M_r^n
    expression -> text F_t ------------------------'          `-> mean -> no-target E

Ours <-> the paper: `regions` P, `width` C, `RegionState.regions` F'_r, `mask_features` F_m, `filters` F_f, minimap x_r,
no_target E. Three wirings share this file: the paper's (`RegionDecoder`), the released weights' and the camera-ready
branch's (`MaskedRegionDecoder`); see `config.py` for the presets.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.errors import RefsegError
from refseg.models.rela.config import DeformableConfig, FeaturePyramidConfig, ReLAConfig, ReLALosses
from refseg.models.rela.masked_regions import MaskedRegionDecoder, MaskedState
from refseg.models.rela.regions import (
    HardSplitConfig,
    RegionDecoder,
    RegionDecoderConfig,
    RegionPrediction,
    RegionState,
    output_of,
    region_maps,
)
from refseg.nn.heads import tag_head
from refseg.nn.losses import (
    dice_loss,
    minimap_targets,
    resize_logits,
    resize_masks,
    tag_losses,
    weighted_cross_entropy,
)
from refseg.nn.pixel_word import LanguageStages
from refseg.nn.pyramid import DeformablePyramid, FeaturePyramid
from refseg.types import (
    Batch,
    Output,
    Targets,
    TextEncoder,
    TextFeatures,
    Tokens,
    VisionEncoder,
    VisualFeatures,
)

__all__ = ["ReLA", "ReLAState", "build_pixel_decoder", "build_rela", "region_losses"]


class ReLAState(NamedTuple):
    """N images, encoded once for all their expressions."""

    relation: RegionState | MaskedState
    tag_logits: Float[Tensor, "N T h w"] | None = None


class ReLA(nn.Module):
    """The model; `build_rela` wires its parts. `late_fusion` says whether images are encoded without the expression."""

    def __init__(
        self,
        config: ReLAConfig,
        vision: VisionEncoder,
        text: TextEncoder,
        pixel_decoder: DeformablePyramid | FeaturePyramid,
        relation: RegionDecoder | MaskedRegionDecoder,
        language_stages: LanguageStages | None = None,
    ) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision = vision
        self.language_stages = language_stages
        self.text = text
        self.pixel_decoder = pixel_decoder
        self.relation = relation
        self.late_fusion = language_stages is None
        self.tags = tag_head(config.width, config.tags)
        part = config.relation
        ria = part.ria if isinstance(part, RegionDecoderConfig) else None
        self.split_input = isinstance(ria, HardSplitConfig) and ria.split == "input"
        self.mask_scale = part.mask_scale if isinstance(part, RegionDecoderConfig) else 1.0

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4, a no-target logit, and what `output_of` adds."""
        text = self.encode_text(batch.tokens)
        if self.late_fusion:
            return self.decode(self.encode_image(batch.images, batch.pixel_mask), text, batch.image_index)
        return self.decode(self._encode(batch.images, batch.pixel_mask, text, batch.image_index), text)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """F_t: one vector a word."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> ReLAState:
        """What no expression changes. Raises `RefsegError` where words enter the vision encoder."""
        if not self.late_fusion:
            raise RefsegError("this ReLA reads the expression inside its picture encoder: call it with both")
        return self._encode(images, pixel_mask, None)

    def decode(self, state: ReLAState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        answers = self.relation.decode(state.relation, text, image_index)  # type: ignore[arg-type]
        return output_of(
            answers, state.tag_logits, region_maps(answers, state.relation.mask_features, image_index, self.mask_scale)
        )

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """`region_losses`."""
        return region_losses(output, targets, self.config.losses, self.config.regions)

    def _encode(
        self, images: Tensor, pixel_mask: Tensor, text: TextFeatures | None, image_index: Tensor | None = None
    ) -> ReLAState:
        if self.split_input:
            maps = self._encode_patches(images)
        elif text is not None and self.language_stages is not None:
            assert isinstance(self.vision, nn.Module)
            maps = self.language_stages.encode(self.vision, images, text, image_index)
            pixel_mask = pixel_mask if image_index is None else pixel_mask[image_index]
        else:
            maps = self.vision(images)
        pyramid = self.pixel_decoder(maps)
        tag_logits = None if self.tags is None else self.tags(pyramid.mask_features)
        return ReLAState(self.relation.encode(maps, pyramid, pixel_mask), tag_logits)

    def _encode_patches(self, images: Float[Tensor, "N 3 H W"]) -> VisualFeatures:
        """Maps of images whose P x P patches never saw one another (table 2, #1).

        An image that does not divide into patches of whole 4-pixel tokens is enlarged to the next size that does.
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


def region_losses(output: Output, targets: Targets, config: ReLALosses, regions: int) -> dict[str, Tensor]:
    """Weighted losses of mask, minimap and no-target label (section 4.1), those of the earlier layers together, tags.

    `regions` is P.
    """
    assert output.no_target_logits is not None
    size = (output.mask_logits.shape[1], output.mask_logits.shape[2])
    truth = RegionPrediction(
        targets.masks.float() if config.mask_size == "input" else resize_masks(targets.masks, size),
        minimap_targets(targets.masks, regions, config.minimap_target),
        targets.no_target.float(),
    )
    last = RegionPrediction(output.mask_logits, output.auxiliary["minimap_logits"], output.no_target_logits)
    parts = _prediction_losses(last, truth, config)
    earlier = output.auxiliary.get("earlier", [])
    if earlier and config.earlier:
        each = [_prediction_losses(RegionPrediction(**item), truth, config) for item in earlier]
        total = sum((value for part in each for value in part.values()), start=output.mask_logits.new_zeros(()))
        parts["earlier"] = config.earlier * total
    return parts | tag_losses(output.auxiliary.get("tag_logits"), targets.tags, config.tags)


def _prediction_losses(prediction: RegionPrediction, truth: RegionPrediction, config: ReLALosses) -> dict[str, Tensor]:
    """`truth` holds shares of pixels and cells, and labels, in the place of logits."""
    classes = (config.background, config.foreground)
    masks, cells, no_target = truth.mask_logits, truth.minimap_logits, truth.no_target_logits
    logits = resize_logits(prediction.mask_logits, (masks.shape[1], masks.shape[2]))
    parts = {"mask": config.mask * weighted_cross_entropy(logits, masks, *classes)}
    if config.dice:
        parts["dice"] = config.dice * dice_loss(logits, masks)
    if config.minimap:
        parts["minimap"] = config.minimap * weighted_cross_entropy(prediction.minimap_logits, cells, *classes)
    if config.no_target:
        parts["no_target"] = config.no_target * weighted_cross_entropy(prediction.no_target_logits, no_target, *classes)
    return parts


def build_pixel_decoder(
    config: DeformableConfig | FeaturePyramidConfig, channels: dict[int, int], width: int
) -> DeformablePyramid | FeaturePyramid:
    """The pixel decoder of a configuration on maps of `channels` by stride; `width` is C."""
    if isinstance(config, FeaturePyramidConfig):
        return FeaturePyramid(channels, width, config.groups, config.fine_width, config.positions)
    return DeformablePyramid(
        channels,
        width,
        groups=config.groups,
        layers=config.layers,
        heads=config.heads,
        points=config.points,
        ffn=config.feedforward,
    )


def build_rela(config: ReLAConfig) -> ReLA:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision, text = build_vision(config.vision), build_text(config.text)
    relation: RegionDecoder | MaskedRegionDecoder
    if isinstance(config.relation, RegionDecoderConfig):
        relation = RegionDecoder(config.relation, vision.channels, text.width, config.width, config.regions)
    else:
        relation = MaskedRegionDecoder(config.relation, text.width, config.width, config.regions)
    stages = LanguageStages(vision.channels, text.width) if config.language_in_vision else None
    pixel_decoder = build_pixel_decoder(config.pixel_decoder, vision.channels, config.width)
    return ReLA(config, vision, text, pixel_decoder, relation, stages)
