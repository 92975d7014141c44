"""Training the detector's second heads and coarse masks on frozen maps.

The heads: NanoDet-Plus's assignment and losses, with classes that a source is silent on.

    cost of place p for object g:  BCE(class of g) * |IoU - score|^2  +  3 * -log IoU  +  10^(distance in strides - 3)
    an object takes the round(sum of its 10 best IoUs), at least 1, cheapest places; a place goes to its cheapest object

    L = QFL (Li et al., 2020, eq. 3, beta 2)  +  2 GIoU (Rezatofighi et al., 2019)  +  .25 DFL (Li et al., eq. 6)

all divided by the sum of the positives' IoUs (GIoU and DFL weighted with them). RangiLyu, NanoDet-Plus, 2021: dynamic
soft label assigner. The coarse masks: cross-entropy in the true boxes, jittered.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config
from refseg.encoders.vision.nanodet import STRIDES, Maps, decode, normalise
from refseg.errors import ConfigError, DataError
from refseg.models.instances.classes import SECOND
from refseg.models.instances.masks import roi_features
from refseg.models.instances.proposals import InstanceDetector
from refseg.models.instances.types import MASK_SIZE
from refseg.nn.boxes import pair_iou
from refseg.training.instances.annotated import AnnotatedPicture, known_classes, second_index
from refseg.training.instances.train_masks import jittered, moving_average, tinted

__all__ = ["DetectorTraining", "Truth", "assign", "detection_loss", "train_detector"]


@dataclass(frozen=True)
class DetectorTraining(Config):
    """How the second heads are trained. Defaults are those of the weights that ship."""

    steps: int = 2000
    """Steps in all."""
    batch_size: int = 8
    """Pictures a step."""
    lr: float = 2e-3
    """Falling to zero along a cosine after 100 steps of warming up."""
    max_minutes: float | None = None
    """Stop after so long; the learning rate falls with time, where that is further than the steps are."""
    weight_decay: float = 1e-2
    """Decoupled (AdamW)."""
    drawn_share: float = 0.35
    """Share of drawn scenes among the pictures."""
    smallest_zoom: float = 0.7
    """A picture is shown whole, or a random part of it with sides of at least this share (on half of the draws)."""
    side: int = 320
    """Pictures are resized to side x side for training, which costs half of what 416 does."""
    masks_per_picture: int = 6
    """Instances of a picture that the coarse masks learn from; 0 leaves them as they are."""
    ema_decay: float = 0.998
    """Of the weights' moving average, which is what is kept; 0 keeps the last weights."""
    color_jitter: float = 0.25
    """Largest relative change of brightness, contrast and saturation."""
    seed: int = 0
    """Of sampling."""

    def check(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not 0 <= self.drawn_share <= 1:
            raise ConfigError("detector: steps and batch_size of 1 or more and a drawn_share of 0 to 1 are wanted")
        if self.side < 64 or self.side % 32:
            raise ConfigError(f"detector.side={self.side}: a multiple of 32 from 64 on is wanted")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"detector.ema_decay={self.ema_decay}: 0 to below 1 is wanted")
        if not 0 < self.smallest_zoom <= 1:
            raise ConfigError("detector: smallest_zoom is above 0 and at most 1")


@dataclass(frozen=True)
class Truth:
    """The objects of one picture at the network's input size, and which classes the picture tells about.

    `boxes` and `labels` are those of the second heads' classes; `mask_boxes` and `masks` (28 x 28 in the box, shares of
    coverage) are of any category.
    """

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, " G"]
    known: Bool[Tensor, " A"]
    mask_boxes: Float[Tensor, "J 4"]
    masks: Float[Tensor, "J M M"]


def places(sizes: Sequence[tuple[int, int]]) -> tuple[Float[Tensor, "P 2"], Float[Tensor, " P"]]:
    """x, y and stride of every place of levels with these (rows, columns)."""
    points, strides = [], []
    for stride, (rows, columns) in zip(STRIDES, sizes, strict=False):
        down, across = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        points.append(torch.stack([across, down], dim=-1).reshape(-1, 2).float())
        strides.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(points), torch.cat(strides)


def assign(
    boxes: Float[Tensor, "P 4"],
    logits: Float[Tensor, "P A"],
    points: Float[Tensor, "P 2"],
    strides: Float[Tensor, " P"],
    truth: Truth,
    candidates: int = 10,
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"]]:
    """Which places answer for which objects: (places, objects, IoU of each place's box with its object).

    Only places strictly inside an object's box compete; an object without such a place is answered by none.
    """
    objects = truth.boxes
    none = torch.zeros(0, dtype=torch.long)
    if not len(objects):
        return none, none, boxes.new_zeros(0)
    sides = torch.cat([points[:, None] - objects[None, :, :2], objects[None, :, 2:] - points[:, None]], dim=-1)
    inside = sides.min(dim=-1).values > 0
    chosen = torch.nonzero(inside.any(dim=1)).flatten()
    if not len(chosen):
        return none, none, boxes.new_zeros(0)
    iou = pair_iou(boxes[chosen], objects)
    centre = (objects[:, :2] + objects[:, 2:]) / 2
    distance = (points[chosen, None] - centre[None]).norm(dim=-1) / strides[chosen, None]
    prior = 10 ** (distance - 3)
    class_logits = logits[chosen][:, truth.labels]
    fit = F.binary_cross_entropy_with_logits(class_logits, iou, reduction="none")
    cost = fit * (iou - class_logits.sigmoid()).abs() ** 2 - 3 * (iou + 1e-7).log() + prior
    cost = cost.masked_fill(~inside[chosen], 1e8)
    wanted = iou.topk(min(candidates, len(chosen)), dim=0).values.sum(dim=0).int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for number in range(len(objects)):
        taken[cost[:, number].topk(min(int(wanted[number]), len(chosen)), largest=False).indices, number] = True
    taken &= inside[chosen]
    several = taken.sum(dim=1) > 1
    if several.any():
        cheapest = cost[several].argmin(dim=1)
        taken[several] = F.one_hot(cheapest, len(objects)).bool()
    rows, numbers = taken.nonzero(as_tuple=True)
    return chosen[rows], numbers, iou[rows, numbers]


def _giou(first: Float[Tensor, "M 4"], second: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = (first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1) - shared
    around = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(dim=1)
    return shared / union.clamp(min=1e-6) - (around - union) / around.clamp(min=1e-6)


def detection_loss(
    outputs: Sequence[Float[Tensor, "N _ _ _"]], truths: Sequence[Truth], classes: int, bins: int = 8
) -> Float[Tensor, ""]:
    """The loss of a batch of head outputs; see the module's text. Classes that a picture is silent on do not count."""
    decoded = decode(outputs, classes, bins)
    points, strides = places([(each.shape[-2], each.shape[-1]) for each in outputs])
    sides = torch.cat([each[:, classes:].flatten(2).transpose(1, 2) for each in outputs], dim=1)
    quality = outputs[0].new_zeros(decoded.logits.shape)
    boxes, aims, weights, bin_logits, bin_aims = [], [], [], [], []
    for number, truth in enumerate(truths):
        with torch.no_grad():
            where, which, iou = assign(
                decoded.boxes[number].detach(), decoded.logits[number].detach(), points, strides, truth
            )
        quality[number, where, truth.labels[which]] = iou
        boxes.append(decoded.boxes[number, where])
        aims.append(truth.boxes[which])
        weights.append(decoded.logits[number, where].detach().sigmoid().max(dim=1).values.clamp(min=0.05))
        bin_logits.append(sides[number, where].unflatten(1, (4, bins)))
        low = (points[where] - truth.boxes[which, :2]) / strides[where, None]
        high = (truth.boxes[which, 2:] - points[where]) / strides[where, None]
        bin_aims.append(torch.cat([low, high], dim=1).clamp(0, bins - 1 - 0.01))
    known = torch.stack([truth.known for truth in truths])[:, None].expand_as(quality)
    focal = (quality - decoded.logits.sigmoid()).abs() ** 2
    qfl = F.binary_cross_entropy_with_logits(decoded.logits, quality, reduction="none") * focal
    total = (qfl * known).sum() / quality.sum().clamp(min=1.0)
    weight = torch.cat(weights)
    if len(weight):
        share = weight / weight.sum()
        giou = 1 - _giou(torch.cat(boxes), torch.cat(aims))
        aim = torch.cat(bin_aims)
        lower = aim.long()
        logs = torch.cat(bin_logits).log_softmax(dim=2)
        dfl = -(
            logs.gather(2, lower[..., None])[..., 0] * (lower + 1 - aim)
            + logs.gather(2, lower[..., None] + 1)[..., 0] * (aim - lower)
        ).mean(dim=1)
        total = total + 2 * (giou * share).sum() + 0.25 * (dfl * share).sum()
    return total


_MIRRORED = {number: SECOND.index(name.replace("left", "right") if "left" in name else name.replace("right", "left"))
             for number, name in enumerate(SECOND) if "left" in name or "right" in name}  # fmt: skip


def _some_masks(
    picture: AnnotatedPicture, config: DetectorTraining, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "J 4"], Float[np.ndarray, "J M M"]]:
    """Jittered boxes of some instances in pixels, and the share of each of 28 x 28 cells that the mask covers."""
    boxes, masks = [], []
    large = [item for item in picture.instances if min(item.bbox[2] - item.bbox[0], item.bbox[3] - item.bbox[1]) >= 8]
    for index in rng.permutation(len(large))[: config.masks_per_picture]:
        mask = large[index].mask(picture.size)
        x0, y0, x1, y1 = jittered(large[index].bbox, 0.05, rng)
        x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, picture.size[1]), min(y1, picture.size[0])
        shrunk = Image.fromarray(mask.astype(np.uint8) * 255).resize(
            (MASK_SIZE, MASK_SIZE), Image.Resampling.BOX, box=(x0, y0, x1, y1)
        )
        boxes.append((x0, y0, x1, y1))
        masks.append(np.asarray(shrunk, dtype=np.float32) / 255)
    return (
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(masks, dtype=np.float32).reshape(-1, MASK_SIZE, MASK_SIZE),
    )


def coarse_loss(model: InstanceDetector, maps: Maps, truths: Sequence[Truth]) -> Float[Tensor, ""]:
    """Cross-entropy of the coarse masks in some true boxes, a mean over the instances of all pictures."""
    prototypes = model.coarse.prototypes(maps.stem, maps.pyramid[0])
    losses = []
    for number, truth in enumerate(truths):
        if len(truth.masks):
            features = roi_features([each[number] for each in maps.pyramid], truth.mask_boxes)
            logits = model.coarse(prototypes[number], features, truth.mask_boxes, 4 * maps.stem.shape[-1])
            each = F.binary_cross_entropy_with_logits(logits, truth.masks, reduction="none")
            losses.append(each.mean(dim=(1, 2)))
    return torch.cat(losses).mean() if losses else prototypes.sum() * 0


def _shown(
    picture: AnnotatedPicture,
    image: UInt8[np.ndarray, "H W 3"],
    known: Bool[np.ndarray, " A"],
    side: int,
    config: DetectorTraining,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "1 3 S S"], Truth]:
    """A random view of a picture for training, normalised, with its objects."""
    drawn = picture.source.startswith("scenes")
    height, width = picture.size
    labelled = [(item.bbox, second_index(item.category, drawn)) for item in picture.instances]
    boxes = np.array([box for box, label in labelled if label is not None], dtype=np.float32).reshape(-1, 4)
    labels = np.array([label for _, label in labelled if label is not None], dtype=np.int64)
    zoom = rng.uniform(config.smallest_zoom, 1) if rng.random() < 0.5 else 1.0
    across, down = max(1, round(width * zoom)), max(1, round(height * zoom))
    left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
    view = tinted(image[top : top + down, left : left + across], config.color_jitter, rng)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    boxes = np.clip(boxes - [left, top, left, top], 0, [across, down, across, down]).astype(np.float32)
    kept = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 0.4 * whole
    boxes, labels = boxes[kept], labels[kept]
    scale = np.array([side / across, side / down] * 2, dtype=np.float32)
    boxes *= scale
    mask_boxes, masks = _some_masks(picture, config, rng)
    mask_boxes = (mask_boxes - np.array([left, top, left, top], dtype=np.float32)) * scale
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
        boxes[:, [0, 2]] = side - boxes[:, [2, 0]]
        mask_boxes[:, [0, 2]] = side - mask_boxes[:, [2, 0]]
        masks = masks[:, :, ::-1].copy()
        labels = np.array([_MIRRORED.get(int(label), int(label)) for label in labels], dtype=np.int64)
    truth = Truth(*map(torch.from_numpy, (boxes, labels, known, mask_boxes, masks)))
    return normalise([view], side), truth


def train_detector(
    model: InstanceDetector,
    pictures: Sequence[AnnotatedPicture],
    config: DetectorTraining,
    shares: Mapping[str, float] | None = None,
    report: Callable[[int, float, float], None] | None = None,
) -> InstanceDetector:
    """Train the second heads and the coarse masks; backbone, pyramid and first heads stay as they are.

    `shares` weigh the photographs' sources against each other (1 each picture where a source is not named);
    `report(step, loss, seconds)` is called every 50 steps. Raises `DataError` without pictures.
    """
    if not pictures:
        raise DataError("detector: there is no picture to learn from")
    rng = np.random.default_rng(config.seed)
    known = known_classes(pictures)
    drawn = [number for number, picture in enumerate(pictures) if picture.source.startswith("scenes")]
    real = [number for number, picture in enumerate(pictures) if not picture.source.startswith("scenes")]
    weights = np.array([(shares or {}).get(pictures[number].source, 1.0) for number in real])
    weights = weights / weights.sum() if len(real) else weights
    encoded: dict[int, bytes] = {}
    for parameter in model.first.parameters():
        parameter.requires_grad_(False)
    parts = nn.ModuleList([model.second, *([model.coarse] if config.masks_per_picture else [])])
    trained = list(parts.parameters())
    averaged = moving_average(parts, config.ema_decay) if config.ema_decay else None
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    model.train()
    started, recent = time.perf_counter(), []
    for step in range(config.steps):
        done = step / config.steps
        if config.max_minutes is not None:
            done = max(done, (time.perf_counter() - started) / 60 / config.max_minutes)
        if done >= 1:
            break
        views, truths, is_drawn = [], [], []
        for _ in range(config.batch_size):
            if drawn and (not real or rng.random() < config.drawn_share):
                number = drawn[rng.integers(len(drawn))]
            else:
                number = int(rng.choice(real, p=weights))
            if number not in encoded:
                encoded[number] = pictures[number].path.read_bytes()
            image = np.asarray(Image.open(io.BytesIO(encoded[number])).convert("RGB"))
            picture = pictures[number]
            view, truth = _shown(picture, image, known[picture.source], config.side, config, rng)
            views.append(view)
            truths.append(truth)
            is_drawn.append(float(picture.source.startswith("scenes")))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, (step + 1) / 100)
        with torch.no_grad():
            maps, stages = model.maps(torch.cat(views))
        loss = detection_loss(model.second(maps.pyramid, stages), truths, model.second.classes, model.config.bins)
        if config.masks_per_picture:
            loss = loss + coarse_loss(model, maps, truths)
        drawn_logits = model.second.drawn_logits(maps.pyramid)
        loss = loss + F.binary_cross_entropy_with_logits(drawn_logits, torch.tensor(is_drawn))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(parts)
        recent.append(loss.item())
        if report is not None and (step + 1) % 50 == 0:
            report(step + 1, float(np.mean(recent[-50:])), time.perf_counter() - started)
    if averaged is not None:
        parts.load_state_dict(averaged.module.state_dict())
    return model.eval()
