"""Proposals of a picture: detected, decoded, suppressed within a class, merged across heads, described.

picture -> 416 x 416 -> backbone -> pyramid -> NanoDet's heads   80 COCO categories, boxes      (frozen)
                            `------------`---> second heads      `SECOND`: garments, car parts, animals, drawings; boxes
    -> the best places of each head -> suppression within the likeliest class -> merging of what is one thing
    -> RoI features, coarse masks, colour shares

The detector is NanoDet-Plus as it is, and a second head for what it never learnt. The first head's score of what is not
there is worth more than a few thousand pictures can teach, so it keeps its weights; the second one stands on the same
maps and is trained on photographs and drawn scenes together. It begins as a copy of the first one's convolutions and
box sides, with class logits of its own. Colours are those of `refseg.nn.color_maps` (a pixel is a soft mixture of the
eleven basic colour terms of Berlin and Kay, 1969), here in a table of 32 x 32 x 32, a look-up a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from refseg.encoders.vision.nanodet import (
    STRIDES,
    Conv,
    Decoded,
    DetectorHead,
    Maps,
    NanoDet,
    NanoDetConfig,
    decode,
    normalise,
    suppress,
)
from refseg.models.instances.classes import CLASSES, COCO, PART_OF, PEOPLE, SECOND, class_index
from refseg.models.instances.config import DetectorConfig, ProposalConfig
from refseg.models.instances.masks import CoarseMasks, InstanceMasks, roi_features
from refseg.models.instances.types import COLOURS, MASK_SIZE, Proposals
from refseg.nn.boxes import box_grid, pair_iou
from refseg.nn.color_maps import color_maps
from refseg.palette import COLORS as NAMES

__all__ = [
    "Detections", "InstanceDetector", "Proposer", "SecondHeads", "believe_drawn", "class_columns", "colour_shares",
    "colour_table", "merge_heads",
]  # fmt: skip

_PRIOR = 0.01
"""The probability of a class at the start of training (Lin et al., focal loss, section 4.1)."""
_BINS = 32
_PERSON = CLASSES.index("person")
_IS_DRAWN = torch.tensor([name.startswith("drawn ") for name in SECOND])
_IS_PART = torch.tensor([name in PART_OF for name in CLASSES])


class SecondHeads(nn.Module):
    """Heads of their own at every level; those of strides 16 and 32 also read the backbone's map of that stride."""

    def __init__(self, config: NanoDetConfig, classes: int = len(SECOND)) -> None:
        super().__init__()
        self.classes = classes
        outputs = classes + 4 * config.bins
        self.heads = nn.ModuleList(DetectorHead(config.pyramid, outputs) for _ in STRIDES)
        self.raw = nn.ModuleList(Conv(width, config.pyramid, 1, act=False) for width in config.widths[1:])
        for raw in self.raw:
            convolution = raw.conv
            assert isinstance(convolution, nn.Conv2d)
            nn.init.zeros_(convolution.weight)
        # Drawn classes are believed as far as the picture as a whole looks drawn: without it some fire on photographs,
        # and names of absent things are found (.904 of them answered right at .15 instead of .927).
        self.drawn = nn.Linear(3 * config.pyramid, 1)

    @torch.no_grad()
    def start_from(self, first: NanoDet) -> None:
        """Take the first head's convolutions and box sides over; class logits start at a low probability."""
        for ours, theirs in zip(self.heads, first.heads, strict=True):
            assert isinstance(ours, DetectorHead)
            assert isinstance(theirs, DetectorHead)
            ours.steps.load_state_dict(theirs.steps.state_dict())
            weight, bias = ours.output.conv.weight, ours.output.conv.bias
            before = theirs.output.conv.bias
            assert bias is not None
            assert before is not None
            weight[self.classes :] = theirs.output.conv.weight[first.config.classes :]
            bias[self.classes :] = before[first.config.classes :]
            nn.init.normal_(weight[: self.classes], std=0.01)
            nn.init.constant_(bias[: self.classes], -math.log((1 - _PRIOR) / _PRIOR))

    def drawn_logits(self, pyramid: list[Float[Tensor, "N W _ _"]]) -> Float[Tensor, " N"]:
        """Above 0 where a picture is a drawn scene and no photograph; from the means of the three finest maps."""
        return self.drawn(torch.cat([each.mean(dim=(2, 3)) for each in pyramid[:3]], dim=1))[:, 0]

    def forward(
        self, pyramid: list[Float[Tensor, "N W _ _"]], stages: dict[int, Float[Tensor, "N _ _ _"]]
    ) -> list[Float[Tensor, "N O _ _"]]:
        """Class logits, then the sides' distributions, at every place of the four levels."""
        maps = list(pyramid)
        for level, (raw, stride) in enumerate(zip(self.raw, (16, 32), strict=True), 1):
            maps[level] = maps[level] + raw(stages[stride])
        return [head(each) for head, each in zip(self.heads, maps, strict=True)]


class InstanceDetector(nn.Module):
    """Both heads, and coarse masks, on one backbone and pyramid."""

    def __init__(self, config: NanoDetConfig | None = None, classes: int = len(SECOND)) -> None:
        super().__init__()
        self.first = NanoDet(config)
        self.second = SecondHeads(self.first.config, classes)
        self.coarse = CoarseMasks(self.first.config.stem_width, self.first.config.pyramid)

    @property
    def config(self) -> NanoDetConfig:
        """Of backbone and first head."""
        return self.first.config

    def maps(self, images: Float[Tensor, "N 3 H W"]) -> tuple[Maps, dict[int, Float[Tensor, "N _ _ _"]]]:
        """The first head's answer with the pyramid, and the backbone's maps by stride."""
        stages = self.first.stages(images)
        pyramid = self.first.pyramid([stages[stride] for stride in (8, 16, 32)])
        outputs = [head(each) for head, each in zip(self.first.heads, pyramid, strict=True)]
        return Maps(stages[4], pyramid, outputs), stages

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> tuple[Maps, list[Float[Tensor, "N O _ _"]]]:
        """The first head's maps and outputs, and the second one's outputs, for normalised pictures."""
        maps, stages = self.maps(images)
        return maps, self.second(maps.pyramid, stages)


@cache
def class_columns() -> Int[Tensor, " S"]:
    """The column of `CLASSES` of each output of the second head: "drawn dog" is a dog."""
    columns = [class_index(name.removeprefix("drawn ")) for name in SECOND]
    assert None not in columns
    return torch.tensor(columns)


def believe_drawn(logits: Float[Tensor, "N P S"], drawn: Float[Tensor, " N"]) -> Float[Tensor, "N P S"]:
    """The second head's class logits with each drawn class's probability times the picture's of being drawn."""
    chance = logits.sigmoid() * drawn.sigmoid()[:, None, None]
    return torch.where(_IS_DRAWN, chance.clamp(1e-6, 1 - 1e-6).logit(), logits)


def _probabilities(logits: Float[Tensor, "P A"], second: bool) -> Float[Tensor, "P B"]:
    """A head's logits as probabilities of all `CLASSES`."""
    chance = logits.sigmoid()
    full = chance.new_zeros(len(chance), len(CLASSES))
    if not second:
        full[:, : len(COCO)] = chance
        return full
    full = full.scatter_reduce(1, class_columns().expand(len(chance), -1), chance, "amax")
    people = full[:, [CLASSES.index(name) for name in PEOPLE]].max(dim=1).values
    full[:, _PERSON] = torch.maximum(full[:, _PERSON], people)
    return full


def _looks_drawn(second_logits: Float[Tensor, "P S"]) -> float:
    """0 to 1: how surely something drawn was found. Drawn classes are gated by the whole picture already."""
    return min(1.0, 2 * float(second_logits[:, _IS_DRAWN].sigmoid().max()))


def _best(
    decoded: Decoded, index: int, second: bool, side: int, config: ProposalConfig
) -> tuple[Float[Tensor, "K 4"], Float[Tensor, "K B"]]:
    """A head's boxes of one picture, 0 to 1, after suppression, with probabilities."""
    logits = decoded.logits[index]
    best = logits.max(dim=1).values.sigmoid()
    order = best.argsort(descending=True, stable=True)[: config.candidates]
    order = order[best[order] >= config.min_score]
    boxes = decoded.boxes[index][order].clamp(0, side) / side
    chance = _probabilities(logits[order], second)
    # The likeliest class decides; a drawn man is suppressed by other men, not by every person.
    label = chance.index_fill(1, torch.tensor([_PERSON]), 0.0).argmax(dim=1) if second else chance.argmax(dim=1)
    real = ((boxes[:, 2:] - boxes[:, :2]) > 1e-3).all(dim=1)
    boxes, chance, label, score = boxes[real], chance[real], label[real], best[order][real]
    kept = suppress(boxes, score, label, config.overlap)
    return boxes[kept], chance[kept]


def merge_heads(
    boxes: Float[Tensor, "K 4"], class_probs: Float[Tensor, "K A"], overlap: float
) -> tuple[Float[Tensor, "J 4"], Float[Tensor, "J A"]]:
    """One proposal for boxes that overlap with an IoU above `overlap`, best score first.

    The box is the best one's, each class's probability the largest of all. Parts (`PART_OF`) merge with parts of the
    same class only.
    """
    if not len(boxes):
        return boxes, class_probs
    scores, label = class_probs.max(dim=1)
    order = scores.argsort(descending=True, stable=True)
    boxes, class_probs, label = boxes[order], class_probs[order], label[order]
    part = _IS_PART[label]
    same = pair_iou(boxes, boxes) > overlap
    same &= (~part[:, None] & ~part) | (label[:, None] == label)
    table = same.numpy()
    owner = np.full(len(boxes), -1)
    for index in range(len(boxes)):
        if owner[index] < 0:
            owner[(owner < 0) & table[index]] = index
            owner[index] = index
    kept = np.unique(owner)
    rows = torch.from_numpy(np.searchsorted(kept, owner))
    merged = class_probs.new_zeros(len(kept), class_probs.shape[1])
    merged = merged.scatter_reduce(0, rows[:, None].expand_as(class_probs), class_probs, "amax")
    return boxes[torch.from_numpy(kept)], merged


@cache
def colour_table() -> Float[Tensor, "32768 11"]:
    """The share of each of `COLOURS` in every colour (r // 8) * 1024 + (g // 8) * 32 + b // 8; rows add up to 1."""
    steps = torch.arange(_BINS) * (256 // _BINS) + 128 // _BINS
    colours = torch.cartesian_prod(steps, steps, steps).float()
    # One picture whose 8 x 8 blocks are of one colour each: the maps' means over such a block change nothing.
    blocks = colours.T.reshape(1, 3, _BINS * _BINS, _BINS).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode(False):
        shares = torch.cat([color_maps(part) for part in blocks.split(1024, dim=2)], dim=2)
    columns = [NAMES.index(name) for name in COLOURS]
    return shares[0].flatten(1).T[:, columns].contiguous()


def colour_shares(
    image: UInt8[np.ndarray, "H W 3"], boxes: Float[Tensor, "K 4"], mask_logits: Float[Tensor, "K M M"]
) -> Float[Tensor, "K 11"]:
    """The mean share of each colour over the points of each box's 28 x 28 grid, weighted with the mask's probability.

    `boxes` are 0 to 1 of the picture. Probabilities are squared, so that points that are hardly inside do not count.
    """
    height, width = image.shape[:2]
    grid = box_grid(boxes, MASK_SIZE)
    columns = (grid[..., 0] * width).long().clamp(0, width - 1)
    rows = (grid[..., 1] * height).long().clamp(0, height - 1)
    pixels = image[rows.numpy(), columns.numpy()].astype(np.int64) >> 3
    codes = torch.from_numpy((pixels[..., 0] << 10) | (pixels[..., 1] << 5) | pixels[..., 2])
    shares = colour_table()[codes].view(len(boxes), MASK_SIZE * MASK_SIZE, len(COLOURS))
    weights = mask_logits.float().sigmoid().square().flatten(1) + 1e-6
    return torch.einsum("kpc,kp->kc", shares, weights / weights.sum(dim=1, keepdim=True))


class Detections(NamedTuple):
    """What the detector's network says of N pictures: boxes of every place in pixels of its input, with class logits.

    The first head's, and the second one's with drawn classes believed as far as the picture looks drawn;
    `pyramid` at strides 8, 16 and 32 and `prototypes` are what features and coarse masks of boxes are made of.
    """

    pyramid: list[Float[Tensor, "N _ _ _"]]
    prototypes: Float[Tensor, "N _ _ _"]
    boxes: Float[Tensor, "N P 4"]
    logits: Float[Tensor, "N P A"]
    second_boxes: Float[Tensor, "N P 4"]
    second_logits: Float[Tensor, "N P S"]


class Proposer(nn.Module):
    """Detector and masks together: a `ProposalSource`."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.detector = InstanceDetector(self.config.detector)
        self.fine_masks = InstanceMasks(self.config.masks)

    def propose(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        """Instances of an RGB picture; see `Proposals`."""
        return self.propose_many([image])[0]

    @torch.inference_mode()
    def propose_many(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Proposals]:
        """Instances of several pictures of any sizes, looked at in one batch."""
        config, side = self.config.proposals, self.config.detector.side
        detected = self.detect(normalise(images, side))
        heads = (
            (Decoded(detected.boxes, detected.logits), False),
            (Decoded(detected.second_boxes, detected.second_logits), True),
        )
        found = []
        for index, image in enumerate(images):
            parts = [_best(decoded, index, is_second, side, config) for decoded, is_second in heads]
            boxes, chance = merge_heads(
                torch.cat([each[0] for each in parts]), torch.cat([each[1] for each in parts]), config.merge_overlap
            )
            boxes, chance = boxes[: config.most], chance[: config.most]
            maps = [each[index] for each in detected.pyramid]
            features, masks = self.describe(maps, detected.prototypes[index], boxes * side)
            colours = colour_shares(image, boxes, masks)
            size = (image.shape[0], image.shape[1])
            drawn = _looks_drawn(detected.second_logits[index])
            found.append(Proposals(boxes, chance.max(dim=1).values, chance, features, colours, masks, size, drawn))
        return found

    def detect(self, images: Float[Tensor, "N 3 S S"]) -> Detections:
        """What the detector's network says of normalised pictures, before suppression."""
        maps, second = self.detector(images)
        bins = self.config.detector.bins
        first = decode(maps.outputs, self.config.detector.classes, bins)
        others = decode(second, self.detector.second.classes, bins)
        drawn = self.detector.second.drawn_logits(maps.pyramid)
        prototypes = self.detector.coarse.prototypes(maps.stem, maps.pyramid[0])
        second_logits = believe_drawn(others.logits, drawn)
        return Detections(maps.pyramid[:3], prototypes, first.boxes, first.logits, others.boxes, second_logits)

    def describe(
        self,
        pyramid: Sequence[Float[Tensor, "C _ _"]],
        prototypes: Float[Tensor, "P h w"],
        boxes: Float[Tensor, "K 4"],
    ) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K M M"]]:
        """RoI features and coarse mask logits of one picture's boxes, which are in pixels of the input."""
        features = roi_features(pyramid, boxes)
        return features, self.detector.coarse(prototypes, features, boxes, self.config.detector.side)

    def mask_logits(self, image: UInt8[np.ndarray, "H W 3"], boxes: Float[Tensor, "K 4"]) -> Float[np.ndarray, "K H W"]:
        """Fine mask logits of boxes, 0 to 1 of the picture, at the picture's size."""
        scale = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float64)
        return self.fine_masks.predict(image, boxes.double().numpy() * scale)

    def masks(self, image: UInt8[np.ndarray, "H W 3"], proposals: Proposals) -> Bool[np.ndarray, "K H W"]:
        """Fine masks of (chosen) proposals at the picture's own size."""
        return self.mask_logits(image, proposals.boxes) > 0
