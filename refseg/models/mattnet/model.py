r"""MAttNet: regions of an image, and three modules that each compare them with their own part of an expression.

    image -> detector, or given regions -> K boxes, classes -.-> grid of features -> subject module -- S_subj -.
                                                             |-> where it and its class lie: location   S_loc --+-> S
    words -> LSTM -> q_subj, q_loc, q_rel, weights w --------'-> things around it: relationship ------- S_rel --'

    S(o_i | r) = w_subj S(o_i | q_subj) + w_loc S(o_i | q_loc) + w_rel S(o_i | q_rel)                         eq. (11)

Yu et al., MAttNet: Modular Attention Network for Referring Expression Comprehension, CVPR 2018. The README beside this
file has the names of the paper beside ours. The best region is the answer, or with `selection` "binary" every region
of which the score says so (GRES, section 5.4); its mask is the detector's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from refseg.encoders.vision.resnet import ResNet
from refseg.errors import RefsegError
from refseg.models.instances.proposals import Proposer
from refseg.models.mattnet.config import MAttNetConfig
from refseg.models.mattnet.language import LanguageAttention, PhraseFeatures
from refseg.models.mattnet.losses import (
    Pairs,
    attribute_loss,
    attribute_weights,
    match_regions,
    ranking_losses,
    target_loss,
)
from refseg.models.mattnet.modules import (
    LocationModule,
    RelationshipModule,
    SubjectFeatures,
    SubjectModule,
    compare,
    embedding_mlp,
)
from refseg.models.mattnet.neighbors import absolute_location, context_regions, offsets, same_class_neighbors
from refseg.models.mattnet.regions import Seen, from_cells, grid_channels, look, without_stride
from refseg.nn.boxes import OUTSIDE, pair_iou, paste_coarse
from refseg.nn.maps import bar_map, word_map
from refseg.types import (
    Batch,
    InstancePredictions,
    NamedMap,
    Output,
    Panels,
    Regions,
    Targets,
    TextFeatures,
    Tokens,
)

__all__ = ["MAttNet", "RegionState", "build_mattnet"]

_AT_ONCE = 1 << 24
"""Values of attention over cells that are computed at once."""


@dataclass
class RegionState:
    """An image for all its expressions: its regions, and what the modules make of them without any words.

    location: embedded, (K, E). relation: embedded context things, (K, J, E); `around` their numbers, -1 for none.
    """

    seen: Seen
    subject: SubjectFeatures
    location: Tensor
    relation: Tensor | None
    around: Int[Tensor, "K J"]


class MAttNet(nn.Module):
    """The model; `build_mattnet` makes its parts."""

    late_fusion = True

    def __init__(
        self,
        config: MAttNetConfig,
        proposer: Proposer,
        vision: ResNet | None,
        text: LanguageAttention,
        subject: SubjectModule,
        location: LocationModule,
        relationship: RelationshipModule | None,
        whole: nn.ModuleDict | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.needs = config.needs
        # Published features are those of a finished detector; nothing of it is trained.
        self.proposer = proposer.requires_grad_(False)
        self.vision = None if vision is None else vision.requires_grad_(False)
        self.text, self.subject, self.location, self.relationship = text, subject, location, relationship
        self.whole = whole
        """The baseline's comparison of [subject; location] with the whole expression."""
        binary = config.selection == "binary"
        self.logit_scale = nn.Parameter(torch.tensor(8.0)) if binary else None
        self.logit_bias = nn.Parameter(torch.tensor(-2.0)) if binary else None
        weights = attribute_weights(config.attribute_counts, config.losses.attribute_weights)
        self.attribute_weights: Tensor
        self.register_buffer(
            "attribute_weights", torch.tensor(weights or [1.0] * len(config.attributes)), persistent=False
        )

    def train(self, mode: bool = True) -> MAttNet:
        """Frozen parts keep answering as they were trained."""
        super().train(mode)
        self.proposer.eval()
        if self.vision is not None:
            self.vision.eval()
        return self

    def forward(self, batch: Batch) -> Output:
        """The answers to B expressions, see `decode`; chosen among `batch.regions` where they are given."""
        state = self.encode_image(batch.images, batch.pixel_mask, batch.regions)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(
        self,
        images: Float[Tensor, "N 3 H W"],
        pixel_mask: Bool[Tensor, "N H W"],
        regions: Regions | None = None,
    ) -> list[RegionState]:
        """The regions of N images, those that are given or that the detector proposes, and what the modules make of
        them. Raises `RefsegError` for regions of another number of images."""
        config = self.config
        seen = self.look(images, pixel_mask, regions)
        # All images at once, so that batch normalisation sees all their regions.
        counts = [len(each.things.boxes) for each in seen]
        subject = self.subject.describe(torch.cat([each.low for each in seen]), torch.cat([each.high for each in seen]))
        places = [absolute_location(each.things.boxes, each.size, config.inclusive_edges) for each in seen]
        beside = [
            offsets(own.boxes, same_class_neighbors(own.boxes, own.groups, each.size, config.neighbors), config.offsets)
            for each in seen
            for own in [each.things]
        ]
        location = self.location.describe(torch.cat(places), torch.cat(beside))
        around = [
            context_regions(own.boxes, own.groups, each.size, config.contexts, config.context_order)
            for each in seen
            for own in [each.things]
        ]
        relation: Sequence[Tensor | None] = [None] * len(seen)
        if self.relationship is not None:
            contexts = [_context_features(each.high, numbers) for each, numbers in zip(seen, around, strict=True)]
            beside = [
                offsets(each.things.boxes, numbers, config.offsets) for each, numbers in zip(seen, around, strict=True)
            ]
            relation = self.relationship.describe(torch.cat(contexts), torch.cat(beside)).split(counts)
        return [
            RegionState(*parts)
            for parts in zip(seen, _split(subject, counts), location.split(counts), relation, around, strict=True)
        ]

    def look(
        self,
        images: Float[Tensor, "N 3 H W"],
        pixel_mask: Bool[Tensor, "N H W"],
        regions: Regions | None = None,
    ) -> list[Seen]:
        """The regions of N images and what the frozen maps say in their cells, which nothing that is trained changes.

        In training given regions may bring their cells (`Regions.cells`), and have no masks, since no loss reads them.
        Raises `RefsegError` for regions of another number of images.
        """
        config = self.config
        if regions is not None and len(regions.boxes) != len(images):
            raise RefsegError(f"regions of {len(regions.boxes)} images are given for {len(images)}")
        contents = [_content(mask) for mask in pixel_mask]
        if self.training and regions is not None and regions.cells is not None:
            channels = grid_channels(self.proposer, self.vision)
            return from_cells(regions, contents, channels, config.attributes, images.device)
        pixels = [(self._pixels(image, place), place) for image, place in zip(images, contents, strict=True)]
        return look(
            images,
            pixels,
            regions,
            self.proposer,
            self.vision,
            config.grid,
            config.attributes,
            masks=not self.training,
        )

    def encode_text(self, tokens: Tokens) -> PhraseFeatures:
        """Phrases and module weights of B expressions."""
        return self.text(tokens)

    def decode(
        self, state: Sequence[RegionState], text: TextFeatures, image_index: Int[Tensor, " B"] | None = None
    ) -> Output:
        """The answers to B expressions.

        `mask_logits` have the input's size. `boxes` (B, 1, 4) are those of the best regions, zeros where there is no
        region. `instances` are the chosen regions with their classes. `attention_maps["words"]` (B, M, L) say what each
        module reads. `auxiliary` holds "module_weights" (B, M), and lists with an entry an expression: "image_index",
        and of its picture's K regions "scores" (K,), "module_scores" (K, M), "logits" (K,; selection binary), "cells"
        (K, G; the subject's attention), "context" (K,; the number of the thing around that decided, -1 for none),
        "boxes" (K, 4) in pixels of the input, "groups" (K,), "attribute_logits" and "attributes" (K, T).
        """
        if not isinstance(text, PhraseFeatures):
            raise RefsegError("the model `mattnet` decodes what its own encode_text made")
        count = len(text.mask)
        index = list(range(count)) if image_index is None else [int(number) for number in image_index]
        module_scores, cells, context = self._module_scores(state, text, index)
        scores: list[Tensor]
        if self.whole is not None:
            scores = [each[:, 0] for each in module_scores]
        else:
            scores = [each @ weights for each, weights in zip(module_scores, text.module_weights, strict=True)]
        size = (max(each.seen.content[2] for each in state), max(each.seen.content[3] for each in state))
        auxiliary: dict[str, Any] = {
            "module_weights": text.module_weights,
            "image_index": index,
            "scores": scores,
            "module_scores": module_scores,
            "cells": cells,
            "context": context,
            "boxes": [state[number].seen.placed() for number in index],
            "groups": [state[number].seen.things.groups for number in index],
        }
        if self.config.attributes:
            auxiliary["attribute_logits"] = [state[number].subject.attributes for number in index]
            auxiliary["attributes"] = [_held(state[number], len(self.config.attributes)) for number in index]
        no_target = None
        logits = scores
        if self.logit_scale is not None and self.logit_bias is not None:
            scale, bias = self.logit_scale, self.logit_bias
            logits = auxiliary["logits"] = [each * scale + bias for each in scores]
            no_target = torch.stack([-each.amax() if len(each) else each.new_tensor(-OUTSIDE) for each in logits])
        masks, boxes, found = [], [], InstancePredictions([], [], [], [])
        assert found.labels is not None
        for number, own, score in zip(index, logits, scores, strict=True):
            seen = state[number].seen
            chosen = self._chosen(own)
            mask_logits = self._masks(seen, chosen, size)
            masks.append(mask_logits.amax(dim=0) if chosen else mask_logits.new_full(size, OUTSIDE))
            centered = _centered(seen.things.boxes)
            boxes.append(centered[int(score.detach().argmax())] if len(score) else centered.new_zeros(4))
            found.boxes.append(centered[chosen])
            found.scores.append(
                own[chosen].detach().sigmoid() if no_target is not None else (score[chosen].detach() + 1) / 2
            )
            found.mask_logits.append(mask_logits)
            found.labels.append([seen.things.labels[row] for row in chosen])
        return Output(
            torch.stack(masks),
            no_target,
            torch.stack(boxes)[:, None],
            auxiliary=auxiliary,
            instances=found,
            attention_maps={"words": text.attention},
            maps=self._maps(state, text, index, scores, module_scores),
        )

    def _maps(
        self,
        state: Sequence[RegionState],
        text: PhraseFeatures,
        index: Sequence[int],
        scores: Sequence[Tensor],
        module_scores: Sequence[Tensor],
    ) -> dict[str, NamedMap]:
        """What the modules read, how much each counts (figure 4 of the paper), and what they say of the regions."""
        names = list(self.config.module_names)

        def regions(title: str, column: int | None) -> NamedMap:
            def read(number: int) -> Panels:
                things, own = state[index[number]].seen.things, scores[number]
                values = own if column is None else module_scores[number][:, column]
                centered = _centered(things.boxes)
                return Panels(values.detach(), tuple(things.labels), values.detach(), centered.detach())

            return NamedMap(title, "boxes", read, "logit")

        maps = {"regions": regions("score of each region", None)}
        if names:
            maps["modules"] = bar_map("weights of the modules", text.module_weights, names)
            maps["words"] = word_map("what each module reads of the words", text.attention, names, text.module_weights)
            for column, name in enumerate(names):
                maps[name] = regions(f"score of each region by the {name} module", column)
        return maps

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Ranking losses, and where the configuration has them those of attributes and of every region."""
        weights, told = self.config.losses, output.auxiliary
        zero = told["module_weights"].sum() * 0 + torch.cat(told["scores"]).sum() * 0
        pairs = [
            Pairs(picture, scores, groups, *match_regions(iou))
            for picture, scores, groups, iou in zip(
                told["image_index"],
                told["scores"],
                told["groups"],
                _target_iou(told, _target_boxes(targets)),
                strict=True,
            )
        ]
        objects, expressions = ranking_losses(pairs, weights, zero)
        result = {
            "object_rank": weights.object_rank * objects,
            "expression_rank": weights.expression_rank * expressions,
        }
        if "logits" in told:
            result["target"] = weights.target * target_loss(pairs, told["logits"], zero)
        if self.config.attributes:
            rows = [(number, row) for number, own in enumerate(pairs) for row in own.positive.nonzero()[:, 0].tolist()]
            result["attribute"] = weights.attribute * attribute_loss(
                [told["attribute_logits"][number][row] for number, row in rows],
                [told["attributes"][number][row] for number, row in rows],
                self.attribute_weights,
                zero,
            )
        return result

    def _module_scores(
        self, state: Sequence[RegionState], text: PhraseFeatures, index: Sequence[int]
    ) -> tuple[list[Float[Tensor, "K M"]], list[Tensor], list[Tensor]]:
        """Of each expression: what the modules say of its picture's regions, attention over cells, deciding contexts.

        The baseline has one column: its only comparison.
        """
        asked = text.sentence if self.whole is not None else text.phrases[:, 0]
        attended: list[Tensor] = [asked] * len(index)
        cells = list(attended)
        pictures: dict[int, list[int]] = {}
        for row, number in enumerate(index):
            pictures.setdefault(number, []).append(row)
        for number, own in pictures.items():
            # Bounded: every phrase has a value for each cell and channel of every region.
            most = max(1, _AT_ONCE // max(1, state[number].subject.cells.numel()))
            for some in (own[start : start + most] for start in range(0, len(own), most)):
                features, attention = self.subject.attend(state[number].subject, asked[some])
                for row, feature, share in zip(some, features, attention, strict=True):
                    attended[row], cells[row] = feature, share
        counts = [len(each) for each in attended]
        rows = torch.repeat_interleave(
            torch.arange(len(index), device=text.mask.device), torch.tensor(counts, device=text.mask.device)
        )
        regions = torch.cat(attended)
        locations = torch.cat([state[number].location for number in index])
        none = [torch.full((count,), -1, device=text.mask.device) for count in counts]
        if self.whole is not None:
            embedded = self.whole["regions"](torch.cat([regions, locations], dim=1))
            column = compare(embedded, self.whole["expression"](text.sentence)[rows])[:, None]
            return list(column.split(counts)), cells, none
        assert self.subject.embed is not None
        assert self.subject.embed_phrase is not None
        assert self.location.embed_phrase is not None
        columns = [
            compare(self.subject.embed(regions), self.subject.embed_phrase(text.phrases[:, 0])[rows]),
            compare(locations, self.location.embed_phrase(text.phrases[:, 1])[rows]),
        ]
        context = none
        if self.relationship is not None:
            phrases = self.relationship.embed_phrase(text.phrases[:, 2])
            related: list[Tensor] = [phrases] * len(index)
            context = list(none)
            for number, own in pictures.items():
                things = state[number]
                assert things.relation is not None
                scores, decided = self.relationship.scores(things.relation, things.around >= 0, phrases[own])
                deciding = torch.where(decided, things.around, -1).amax(dim=2)
                for row, score, number_of in zip(own, scores, deciding, strict=True):
                    related[row], context[row] = score, number_of
            columns.append(torch.cat(related))
        return list(torch.stack(columns, dim=1).split(counts)), cells, context

    def _chosen(self, logits: Float[Tensor, " K"]) -> list[int]:
        """The best region, or with `selection` "binary" all with logits above 0, best first."""
        order = logits.detach().argsort(descending=True, stable=True).tolist()
        if self.logit_scale is None:
            return order[:1]
        return [row for row in order if float(logits[row].detach()) > 0][: self.config.max_masks]

    @torch.no_grad()
    def _masks(self, seen: Seen, chosen: list[int], size: tuple[int, int]) -> Float[Tensor, "k H W"]:
        """Mask logits of regions at the input's size; in training nothing is drawn, since no loss reads it."""
        top, left, bottom, right = seen.content
        things = seen.things
        result = torch.full((len(chosen), *size), OUTSIDE, device=things.boxes.device)
        if self.training:
            return result
        if things.masks is not None:
            height, width = things.masks.shape[1:]
            for row, number in enumerate(chosen):
                result[row, :height, :width][things.masks[number]] = -OUTSIDE
        elif self.config.fine_masks:
            assert seen.image is not None
            missing = [number for number in chosen if number not in seen.fine]
            if missing:
                made = self.proposer.mask_logits(seen.image, things.boxes[missing].cpu())
                seen.fine.update(zip(missing, made, strict=True))
            for row, number in enumerate(chosen):
                result[row, top:bottom, left:right] = torch.from_numpy(seen.fine[number])
        else:
            assert things.mask_logits is not None
            for row, number in enumerate(chosen):
                result[row, top:bottom, left:right] = paste_coarse(
                    things.mask_logits[number].cpu(), things.boxes[number].cpu(), seen.size
                )
        return result

    def _pixels(self, image: Float[Tensor, "3 H W"], place: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """The image without padding and normalisation."""
        top, left, bottom, right = place
        mean, std = (image.new_tensor(part).view(3, 1, 1) for part in (self.config.input.mean, self.config.input.std))
        values = (image * std + mean)[:, top:bottom, left:right].float()
        pixels = values.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(pixels)


def _content(mask: Bool[Tensor, "H W"]) -> tuple[int, int, int, int]:
    """Where the image lies in the input: top, left, bottom, right."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _context_features(high: Float[Tensor, "K G C"], around: Int[Tensor, "K J"]) -> Float[Tensor, "K J C"]:
    """Mean features of the things around each region, zeros for none."""
    mean = high.mean(dim=1)
    return mean[around.clamp(min=0)] * (around >= 0)[..., None]


def _split(features: SubjectFeatures, counts: list[int]) -> list[SubjectFeatures]:
    parts = []
    for value in (features.cells, features.projected, features.attributes):
        parts.append([None] * len(counts) if value is None else value.split(counts))
    return [SubjectFeatures(*each) for each in zip(*parts, strict=True)]  # type: ignore[arg-type]


def _held(state: RegionState, count: int) -> Bool[Tensor, "K T"]:
    things = state.seen.things
    return things.boxes.new_zeros(len(things.boxes), count).bool() if things.attributes is None else things.attributes


def _centered(boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K 4"]:
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)


def _target_boxes(targets: Targets) -> list[Float[Tensor, "_ 4"]]:
    """Boxes of each expression's targets in pixels of the input; of their union where they are not given one by one."""
    singly = targets.instances
    masks = targets.masks if singly is None else torch.cat(singly)
    ends = []
    for axis in (1, 2):
        held = masks.any(dim=axis).to(torch.uint8)
        # argmax is the first of several largest.
        ends.append((held.argmax(dim=1), held.shape[1] - held.flip(1).argmax(dim=1)))
    (left, right), (top, bottom) = ends
    boxes = torch.stack([left, top, right, bottom], dim=1).float()
    counts = [1] * len(masks) if singly is None else [len(each) for each in singly]
    there = masks.flatten(1).any(dim=1).split(counts)
    return [own[real] for own, real in zip(boxes.split(counts), there, strict=True)]


def _target_iou(told: dict[str, Any], targets: Sequence[Float[Tensor, "_ 4"]]) -> list[Float[Tensor, "K _"]]:
    """IoU of each expression's regions and targets, computed once for all expressions about a picture."""
    pictures: dict[int, list[int]] = {}
    for row, picture in enumerate(told["image_index"]):
        pictures.setdefault(picture, []).append(row)
    found: list[Tensor] = [targets[0]] * len(targets)
    for rows in pictures.values():
        boxes = told["boxes"][rows[0]]
        iou = pair_iou(boxes, torch.cat([targets[row] for row in rows]).to(boxes))
        for row, own in zip(rows, iou.split([len(targets[row]) for row in rows], dim=1), strict=True):
            found[row] = own
    return found


def build_mattnet(config: MAttNetConfig) -> MAttNet:
    """The model of a configuration with fresh weights, its detector's included (see `pretrained.detector`)."""
    proposer = Proposer(config.detector)
    vision = None if config.vision is None else without_stride(ResNet(config.vision))
    low, high = grid_channels(proposer, vision)
    text = LanguageAttention(config.text, len(config.module_names))
    subject = SubjectModule(config, low, high, text.width)
    location = LocationModule(config, text.width)
    relationship = RelationshipModule(config, high, text.width) if config.relationship else None
    whole = None
    if not config.modular:
        regions = embedding_mlp(subject.channels + config.embed_dim, config)
        whole = nn.ModuleDict({"regions": regions, "expression": embedding_mlp(text.sentence_width, config)})
    return MAttNet(config, proposer, vision, text, subject, location, relationship, whole)
