r"""ISFP: a grid whose cells stand for things; the expression chooses a cell, and the cell has a mask.

Liu, Jiang, Ding: Instance-Specific Feature Propagation for Referring Segmentation, IEEE Transactions on Multimedia,
2022; here after chapter 3 of the first author's thesis.

    image   -> F_vl (1/8)  -.
            -> F_vm (1/16)  > product with the expression -> down path -> F_ide -> identification branch -> F_ins, S x S
            -> F_vs (1/32) -'                 |                                    -> relationship analysis -> cell
    expression -> F_t ------------------------'-> up path -> F_seg -> segmentation branch -> S^2 masks (1/8)   |
                                                                                                 |             |
                                         mask <- refinement, with the image <- coarse mask <-----'-------------'

Ours <-> the thesis: `width` C_f, `grid` S, `instances` F_ins, `identify_logits` the identifying map, `channel_logits`
the S^2 masks; channel i S + j belongs to row i, column j. There is no published code; what the text leaves open is a
field of `config.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.errors import ConfigError, RefsegError
from refseg.models.isfp.config import BranchConfig, ISFPConfig, RefinementConfig
from refseg.models.isfp.grid import grid_targets
from refseg.models.isfp.propagation import RelationAnalysis
from refseg.nn.aspp import ASPP
from refseg.nn.conv import KERAS_EPS, LEAK, channels_last, conv_leaky
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import dice_loss, no_target_loss, resize_logits, resize_masks, tag_losses
from refseg.nn.maps import pixel_map
from refseg.nn.parts import Part, conv_enlarged, rows_of
from refseg.nn.positions import with_coordinates
from refseg.types import Batch, NamedMap, Output, Targets, TextEncoder, TextFeatures, Tokens, VisionEncoder

__all__ = [
    "ISFP",
    "CrossScale",
    "Fusion",
    "ISFPState",
    "Refinement",
    "build_isfp",
    "chosen_cells",
    "with_true_location",
    "with_true_masks",
]

STRIDES = (8, 16, 32)
"""Of F_vl, F_vm and F_vs."""

NOWHERE = -20.0
"""Logit of a mask where no cell is chosen, which only an oracle can bring about."""


class ISFPState(NamedTuple):
    """N images, encoded once for all their expressions."""

    visual: tuple[Float[Tensor, "N _ _ _"], ...]
    """Convolutions of F_vl, F_vm and F_vs: the visual factors of equation 3.1."""
    image: Float[Tensor, "N 3 u v"] | None
    """The image at the size that the refinement reads."""
    size: tuple[int, int]
    """Height and width of the input."""
    tag_logits: Float[Tensor, "N t h w"] | None = None


class Fusion(nn.Module):
    """Products of each level's visual factor and the expression's (equation 3.1), normalised and rectified."""

    def __init__(self, text_width: int, width: int, product_norm: bool) -> None:
        super().__init__()
        self.sentence = nn.Linear(text_width, width, bias=False)
        self.sentence_norm = nn.BatchNorm1d(width, eps=KERAS_EPS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=KERAS_EPS) for _ in STRIDES if product_norm)

    def forward(
        self, visual: tuple[Float[Tensor, "B _ _ _"], ...], sentence: Float[Tensor, "B T"]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """One map a level."""
        factor = F.leaky_relu(self.sentence_norm(self.sentence(sentence)), LEAK)[..., None, None]
        fused = [maps * factor for maps in visual]
        if not self.norms:
            return fused
        return [F.leaky_relu(norm(maps), LEAK) for norm, maps in zip(self.norms, fused, strict=True)]


class CrossScale(nn.Module):
    """The two pathways through the levels (section 3.2.1): down to F_ide where `identify`, and up to F_seg."""

    def __init__(self, width: int, identify: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv_leaky(2 * width, width, 1) for _ in range(2 if identify else 0))
        self.up = nn.ModuleList(conv_leaky(2 * width, width, 1) for _ in range(2))

    def forward(
        self, levels: list[Float[Tensor, "B _ _ _"]]
    ) -> tuple[Float[Tensor, "B C _ _"] | None, Float[Tensor, "B C _ _"]]:
        """F_ide at the size of the coarsest level, and F_seg at that of the finest; `levels` are fine to coarse."""
        deep = None
        for conv, level in zip(self.down, levels[1:], strict=False):
            finer = levels[0] if deep is None else deep
            pooled = F.adaptive_avg_pool2d(finer, (level.shape[2], level.shape[3]))
            deep = conv(channels_last(torch.cat([pooled, level], dim=1)))
        fine = levels[-1]
        for conv, level in zip(self.up, reversed(levels[:-1]), strict=True):
            raised = F.interpolate(fine, size=level.shape[2:], mode="nearest")
            fine = conv(channels_last(torch.cat([raised, level], dim=1)))
        return deep, fine


def _stack(inputs: int, width: int, layers: int) -> nn.Sequential:
    """3x3 convolutions in a row."""
    return nn.Sequential(*(conv_leaky(width if index else inputs, width, 3) for index in range(layers)))


class SegmentationBranch(nn.Module):
    """3x3 convolutions, ASPP, and a mask for each channel (section 3.2.2)."""

    def __init__(self, config: BranchConfig, inputs: int, channels: int) -> None:
        super().__init__()
        width = config.segmentation_width
        self.convs = _stack(inputs, width, config.layers)
        self.aspp = ASPP(width, width, config.rates)
        self.output = nn.Conv2d(width, channels, kernel_size=1)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        """Mask logits."""
        return self.output(self.aspp(self.convs(maps)))


class Refinement(nn.Module):
    """Three 3x3 convolutions of image and coarse mask, added to the enlarged coarse mask (section 3.2.4)."""

    def __init__(self, config: RefinementConfig) -> None:
        super().__init__()
        self.config = config
        self.first = conv_leaky(4, config.width, 3)
        self.second = conv_leaky(config.width, config.width, 3)
        self.third = nn.Conv2d(config.width, 1, kernel_size=3, padding=1)

    def forward(
        self,
        image: Float[Tensor, "N 3 u v"],
        coarse: Float[Tensor, "B h w"],
        size: tuple[int, int],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B p q"]:
        """Mask logits at `output_stride` of an input of `size`; `coarse` are logits, `image_index[b]` is the image of
        row b."""
        probability = resize_logits(coarse.sigmoid(), (image.shape[2], image.shape[3]))
        maps = self.first([Part(image, image_index), Part(probability[:, None].to(image.dtype))])
        maps = self.second.enlarged(maps) if self.config.enlargements > 0 else self.second(maps)
        maps = conv_enlarged(self.third, maps) if self.config.enlargements > 1 else self.third(maps)
        out = (-(-size[0] // self.config.output_stride), -(-size[1] // self.config.output_stride))
        return maps[:, 0, : out[0], : out[1]] + resize_logits(coarse, out)


class ISFP(nn.Module):
    """The model; `build_isfp` wires its parts. Images are encoded without the expression."""

    late_fusion = True

    def __init__(self, config: ISFPConfig, vision: VisionEncoder, text: TextEncoder) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision = vision
        self.text = text
        width, part = config.width, config.branches
        extra = 2 if config.coordinates else 0
        self.visual = nn.ModuleList(conv_leaky(vision.channels[stride] + extra, width, 1) for stride in STRIDES)
        self.fusion = Fusion(text.width, width, config.product_norm)
        self.cross_scale = CrossScale(width, config.identify)
        self.identification: nn.Sequential | None = None
        self.relations: RelationAnalysis | None = None
        if config.identify:
            self.identification = _stack(width, part.instance_width, part.layers)
            self.relations = RelationAnalysis(config.propagation, part.instance_width)
        self.segmentation = SegmentationBranch(part, width, config.grid**2 if config.identify else 1)
        self.refinement = Refinement(config.refinement) if config.refinement.enabled else None
        judged = part.instance_width if config.identify else width
        self.no_target = NoTargetHead(judged) if config.no_target_head else None
        self.tags = tag_head(width, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at `refinement.output_stride` (8 without refinement), and `auxiliary`: `coarse_logits` (B, h, w)
        at stride 8, and with an identification branch `identify_logits` (B, S, S), `cells` (B, S, S), True on those
        that answer, and `channel_logits` (B, S^2, h, w); and `tag_logits` (N, t, h, w) where there are tags."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """F_w and F_t."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> ISFPState:
        """What no expression changes. The padding of a letterbox is seen like any other grey, as in MCN."""
        maps = self.vision(images)
        visual = tuple(
            layer(channels_last(with_coordinates(maps[stride]) if self.config.coordinates else maps[stride]))
            for stride, layer in zip(STRIDES, self.visual, strict=True)
        )
        size = (images.shape[2], images.shape[3])
        small = None
        if self.refinement is not None:
            stride = self.config.refinement.input_stride
            small = F.adaptive_avg_pool2d(images, (-(-size[0] // stride), -(-size[1] // stride)))
        tags = None if self.tags is None else self.tags(visual[0])
        return ISFPState(visual, small, size, tags)

    def decode(
        self,
        state: ISFPState,
        text: TextFeatures,
        image_index: Int[Tensor, " B"] | None = None,
        cells: Bool[Tensor, "B S S"] | None = None,
    ) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one.

        `cells` puts other cells in the place of those that the identifying map chooses (table 3.2A). Raises
        `RefsegError` where the model has no cells.
        """
        if cells is not None and self.relations is None:
            raise RefsegError("this ISFP has no identification branch: there are no cells to choose")
        visual, small = state.visual, state.image
        if image_index is not None:
            visual = tuple(rows_of(channels_last(maps), image_index) for maps in visual)
        deep, fine = self.cross_scale(self.fusion(visual, text.sentence))
        channels, judged = self.segmentation(fine), fine
        auxiliary: dict[str, Any] = {}
        maps: dict[str, NamedMap] = {}
        if self.relations is None or self.identification is None:
            coarse = channels[:, 0]
        else:
            grid = self.config.grid
            spread = F.interpolate(deep, size=(grid, grid), mode="bilinear", align_corners=False)
            instances = judged = self.identification(spread)
            identify = self.relations(instances)
            if cells is None:
                threshold = self.config.cell_threshold if self.config.answer == "union" else None
                cells = chosen_cells(identify, threshold)
            coarse = masks_of_cells(channels, cells)
            auxiliary = {"identify_logits": identify, "cells": cells, "channel_logits": channels}
            maps = _branch_maps(identify, channels)
        auxiliary["coarse_logits"] = coarse
        logits = coarse if self.refinement is None else self.refinement(small, coarse, state.size, image_index)
        no_target = None if self.no_target is None else self.no_target(judged.flatten(2).transpose(1, 2))
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        return Output(logits, no_target, auxiliary=auxiliary, maps=maps)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Equation 3.4, weighted; with the dice loss and the no-target label where the configuration has them."""
        config, auxiliary = self.config.losses, output.auxiliary
        coarse, logits = auxiliary["coarse_logits"], output.mask_logits
        count, pixels = len(coarse), coarse[0].numel()
        parts, dice = {}, []
        if self.relations is None:
            learnt, goals = coarse, self._target(targets.masks, coarse)
        else:
            truth = grid_targets(targets, self.config.grid, self.config.needs.instances)
            entropy = F.binary_cross_entropy_with_logits(auxiliary["identify_logits"], truth.positive.float())
            parts["identify"] = config.identify * self._total(entropy, self.config.grid**2)
            expression, row, column = truth.positive.nonzero(as_tuple=True)
            learnt = auxiliary["channel_logits"][expression, row * self.config.grid + column]
            goals = self._target(truth.masks, coarse)[truth.owner[expression, row, column]]
        if len(learnt):
            entropy = F.binary_cross_entropy_with_logits(learnt, goals)
            parts["segment"] = config.segment * self._total(entropy, pixels * len(learnt) / count)
            dice.append(dice_loss(learnt, goals))
        else:
            parts["segment"] = 0.0 * auxiliary["channel_logits"].sum()
        if self.refinement is not None:
            # Where the coarse mask is wrong, the wrong cell was chosen, and refining it would teach the wrong thing.
            overlap = _iou(coarse > 0, resize_masks(targets.masks, (coarse.shape[1], coarse.shape[2])) >= 0.5)
            right = overlap > config.refine_threshold
            goals = self._target(targets.masks, logits)
            entropy = F.binary_cross_entropy_with_logits(logits, goals, reduction="none").flatten(1).mean(dim=1)
            parts["refine"] = config.refine * self._total((entropy * right).mean(), pixels)
            if right.any():
                dice.append(dice_loss(logits[right], goals[right]))
        if config.dice and dice:
            parts["dice"] = config.dice * torch.stack(dice).sum()
        if output.no_target_logits is not None:
            parts["no_target"] = no_target_loss(output.no_target_logits, targets.no_target, config.no_target)
        return parts | tag_losses(auxiliary.get("tag_logits"), targets.tags, config.tags)

    def _target(self, masks: Bool[Tensor, "K H W"], logits: Float[Tensor, "_ h w"]) -> Float[Tensor, "K h w"]:
        size = (logits.shape[1], logits.shape[2])
        if self.config.losses.downsample == "area":
            return resize_masks(masks, size)
        return F.interpolate(masks.float()[:, None], size=size, mode="nearest-exact")[:, 0]

    def _total(self, mean: Float[Tensor, ""], count: int | float) -> Float[Tensor, ""]:
        """A mean as the configuration reduces it: as it is, or as the sum over `count` elements."""
        return mean * count if self.config.losses.reduction == "sum" else mean


def chosen_cells(identify: Float[Tensor, "B S S"], threshold: float | None) -> Bool[Tensor, "B S S"]:
    """The likeliest cell of each expression, and with a `threshold` all others of that probability or more, unless none
    reaches it."""
    flat = identify.flatten(1)
    best = F.one_hot(flat.argmax(dim=1), flat.shape[1]).bool()
    chosen = best if threshold is None else best | (flat.sigmoid() >= threshold)
    return chosen.view_as(identify)


def masks_of_cells(channels: Float[Tensor, "B K h w"], cells: Bool[Tensor, "B S S"]) -> Float[Tensor, "B h w"]:
    """The highest logit over the channels of the chosen cells; channel i S + j belongs to cell (i, j)."""
    chosen = cells.flatten(1)
    masked = channels.masked_fill(~chosen[..., None, None], -torch.inf).amax(dim=1)
    return masked.masked_fill(~chosen.any(dim=1)[:, None, None], NOWHERE)


def _branch_maps(identify: Float[Tensor, "B S S"], channels: Float[Tensor, "B K h w"]) -> dict[str, NamedMap]:
    """What the branches give (figures 3.6 and 3.7): the identifying map, all things that have a mask, single masks."""
    side = identify.shape[1]
    cells = [f"cell of row {number // side + 1}, column {number % side + 1}" for number in range(side**2)]
    likely = identify.sigmoid()
    return {
        "identifying_map": pixel_map("identifying map", likely, scale="probability"),
        "things": pixel_map(
            "segmentation branch: the largest of its masks", channels, apply=_largest, scale="probability"
        ),
        "cell_masks": pixel_map(
            "masks of the likeliest cells", channels, cells, likely.flatten(1), apply=torch.sigmoid, scale="probability"
        ),
    }


def _largest(channels: Float[Tensor, "K h w"]) -> Float[Tensor, "1 h w"]:
    return channels.amax(dim=0, keepdim=True).sigmoid()


def _iou(predictions: Bool[Tensor, "B h w"], targets: Bool[Tensor, "B h w"]) -> Float[Tensor, " B"]:
    shared, union = ((pair.flatten(1).sum(dim=1)) for pair in (predictions & targets, predictions | targets))
    return shared / union.clamp(min=1)


def with_true_location(model: ISFP, batch: Batch, targets: Targets) -> Output:
    """The answers when the identification branch names the cell of each target's centre of gravity (table 3.2A);
    expressions without target have no cell and an empty mask."""
    cells = grid_targets(targets, model.config.grid, model.config.needs.instances).centres
    state = model.encode_image(batch.images, batch.pixel_mask)
    return model.decode(state, model.encode_text(batch.tokens), batch.image_index, cells)


def with_true_masks(model: ISFP, output: Output, targets: Targets) -> Output:
    """The answers when the segmentation branch draws what the chosen cells stand for (table 3.2B): a positive cell is
    worth its target's mask. Targets do not know the image's other things, so that any other cell is worth an empty
    mask; in the thesis it is worth the other thing's, which shares next to nothing with the target."""
    if "cells" not in output.auxiliary:
        raise RefsegError("this ISFP has no identification branch: there is no chosen cell")
    truth = grid_targets(targets, model.config.grid, model.config.needs.instances)
    size = (output.mask_logits.shape[1], output.mask_logits.shape[2])
    logits: Float[Tensor, "B h w"] = output.mask_logits.new_full(output.mask_logits.shape, NOWHERE)
    for index, (owner, cells) in enumerate(zip(truth.owner, output.auxiliary["cells"], strict=True)):
        things = owner[cells & (owner >= 0)].unique()
        if len(things):
            union = truth.masks[things].any(dim=0)
            logits[index] = (2 * resize_masks(union[None], size)[0] - 1) * -NOWHERE
    return Output(logits, output.no_target_logits, auxiliary=output.auxiliary)


def build_isfp(config: ISFPConfig) -> ISFP:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision = build_vision(config.vision)
    if not set(STRIDES) <= set(vision.channels):
        raise ConfigError(f"vision: maps of strides {STRIDES} are wanted, not {tuple(vision.channels)}")
    return ISFP(config, vision, build_text(config.text))
