"""Losses as pure functions of logits and targets. Targets may be soft: shares between 0 and 1."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "box_distance",
    "dice_loss",
    "focal_loss",
    "generalized_iou",
    "minimap_targets",
    "resize_logits",
    "resize_masks",
    "tag_loss",
    "weighted_cross_entropy",
]


def weighted_cross_entropy(
    logits: Float[Tensor, "*S"], targets: Float[Tensor, "*S"], background: float = 1.0, foreground: float = 1.0
) -> Float[Tensor, ""]:
    """Cross entropy of two classes, sum of weight * entropy over sum of weight, everything in one mean.

    `logits` are foreground minus background: with two logits a position this is their softmax cross entropy. A target
    t weighs `background` + t * (`foreground` - `background`), which for 0 and 1 is torch's weighted mean (ReLA's
    published criterion).
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if background == foreground:
        return entropy.mean()
    weights = background + targets * (foreground - background)
    return (weights * entropy).sum() / weights.sum()


def dice_loss(logits: Float[Tensor, "B h w"], targets: Float[Tensor, "B h w"]) -> Float[Tensor, ""]:
    """Mean over the sentences of 1 - (2 sum p t + 1) / (sum p + sum t + 1) (Milletari et al., 3DV 2016, as MaskFormer
    smooths it, so that an empty target asks for an empty mask)."""
    probabilities, targets = logits.sigmoid().flatten(1), targets.flatten(1)
    shared = (probabilities * targets).sum(dim=1)
    total = probabilities.sum(dim=1) + targets.sum(dim=1)
    return (1 - (2 * shared + 1) / (total + 1)).mean()


def focal_loss(
    logits: Float[Tensor, "B h w"], targets: Float[Tensor, "B h w"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Mean over pixels and sentences of a (1 - p)^gamma times the cross entropy, where p is the probability of the true
    class and a is `alpha` for foreground, 1 - `alpha` for background (Lin et al., ICCV 2017, equation 5)."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probabilities = logits.sigmoid()
    wrong = probabilities * (1 - targets) + (1 - probabilities) * targets
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return (balance * wrong**gamma * entropy).mean()


def box_distance(boxes: Float[Tensor, "*B 4"], targets: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B"]:
    """Sum of the four absolute differences, in the boxes' own form and unit."""
    return (boxes - targets).abs().sum(dim=-1)


def generalized_iou(boxes: Float[Tensor, "*B 4"], targets: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B"]:
    """Generalized IoU of pairs of boxes, xyxy, -1 to 1 (Rezatofighi et al., CVPR 2019, algorithm 1); a loss is 1 minus
    it. Boxes without area are safe."""
    shared = _area(torch.maximum(boxes[..., :2], targets[..., :2]), torch.minimum(boxes[..., 2:], targets[..., 2:]))
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(targets[..., :2], targets[..., 2:]) - shared
    hull = _area(torch.minimum(boxes[..., :2], targets[..., :2]), torch.maximum(boxes[..., 2:], targets[..., 2:]))
    return shared / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def _area(least: Tensor, most: Tensor) -> Tensor:
    return (most - least).clamp(min=0).prod(dim=-1)


def tag_loss(logits: Float[Tensor, "N T h w"], targets: Bool[Tensor, "N T h w"]) -> Float[Tensor, ""]:
    """Binary cross entropy summed over the words, averaged over pixels; those where some word holds weigh half in all,
    and the rest the other half, since most of a picture is neither."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(dim=1)
    some = targets.any(dim=1)
    means = [entropy[where].mean() for where in (some, ~some) if bool(where.any())]
    return torch.stack(means).mean()


def resize_logits(logits: Float[Tensor, "B h w"], size: tuple[int, int]) -> Float[Tensor, "B u v"]:
    """Bilinear, `align_corners` False."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def resize_masks(masks: Bool[Tensor, "B H W"], size: tuple[int, int]) -> Float[Tensor, "B h w"]:
    """The share of each cell that is foreground; cells are as `adaptive_avg_pool2d` cuts them."""
    return F.adaptive_avg_pool2d(masks.float()[:, None], size)[:, 0]


def minimap_targets(
    masks: Bool[Tensor, "B H W"], regions: int, kind: Literal["centre", "area", "any"]
) -> Float[Tensor, "B R"]:
    """The target of the regions x regions minimap, row by row (ReLA, section 4.1: M_GT down-sampled).

    centre: 1 where the four pixels around the cell's centre are all foreground (published code: bilinear without
    averaging, then rounded down). area: the share of the cell that is foreground. any: 1 where any pixel is.
    """
    picture = masks.float()[:, None]
    if kind == "centre":
        cells = F.interpolate(picture, size=(regions, regions), mode="bilinear", align_corners=False).floor()
    elif kind == "area":
        cells = F.adaptive_avg_pool2d(picture, regions)
    else:
        cells = F.adaptive_max_pool2d(picture, regions)
    return torch.flatten(cells, 1)
