"""Losses as pure functions of logits and targets. Targets may be soft: shares between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from refseg.config import Config, NonNegativeFloat
from refseg.types import Output, Targets

__all__ = [
    "SharedLosses",
    "box_distance",
    "dice_loss",
    "focal_loss",
    "generalized_iou",
    "minimap_targets",
    "no_target_loss",
    "resize_logits",
    "resize_masks",
    "shared_losses",
    "tag_loss",
    "tag_losses",
    "weighted_cross_entropy",
]


@dataclass(frozen=True, kw_only=True)
class SharedLosses(Config):
    """Weights of the losses that any system may have besides its paper's; a system's own class adds to them."""

    dice: NonNegativeFloat = 0.0
    """Of the dice loss on the mask."""
    no_target: NonNegativeFloat = 1.0
    """Of the no-target logit, where the model has one."""
    tags: NonNegativeFloat = 0.3
    """Of the tags (see `refseg.nn.heads`), where there are any."""


def shared_losses(
    config: SharedLosses,
    output: Output,
    targets: Targets,
    logits: Float[Tensor, "B h w"],
    masks: Float[Tensor, "B h w"],
) -> dict[str, Tensor]:
    """The weighted losses of `SharedLosses` that apply: "dice" of `logits` against `masks` (shares of foreground),
    "no_target" and "tags" of what `output` has."""
    parts = {}
    if config.dice:
        parts["dice"] = config.dice * dice_loss(logits, masks)
    if output.no_target_logits is not None:
        parts["no_target"] = no_target_loss(output.no_target_logits, targets.no_target, config.no_target)
    return parts | tag_losses(output.auxiliary.get("tag_logits"), targets.tags, config.tags)


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
    """Mean over the expressions of 1 - (2 sum p t + 1) / (sum p + sum t + 1) (Milletari et al., 3DV 2016, as MaskFormer
    smooths it, so that an empty target asks for an empty mask)."""
    probabilities, targets = logits.sigmoid().flatten(1), targets.flatten(1)
    shared = (probabilities * targets).sum(dim=1)
    total = probabilities.sum(dim=1) + targets.sum(dim=1)
    return (1 - (2 * shared + 1) / (total + 1)).mean()


def focal_loss(
    logits: Float[Tensor, "B h w"], targets: Float[Tensor, "B h w"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Mean over pixels and expressions of a (1 - p)^gamma times the cross entropy, where p is the probability of the
    true class and a is `alpha` for foreground, 1 - `alpha` for background (Lin et al., ICCV 2017, equation 5)."""
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


def tag_losses(
    logits: Float[Tensor, "N T h w"] | None, targets: Bool[Tensor, "N T u v"] | None, weight: float
) -> dict[str, Tensor]:
    """{"tags": `weight` times `tag_loss`} at the targets' size; nothing without logits, and 0 for a batch without
    targets, with which every process of a run still has the same losses and gradients to exchange."""
    if logits is None:
        return {}
    if targets is None:
        return {"tags": 0.0 * logits.sum()}
    if logits.shape[2:] != targets.shape[2:]:
        logits = F.interpolate(logits, size=targets.shape[2:], mode="bilinear", align_corners=False)
    return {"tags": weight * tag_loss(logits, targets)}


def no_target_loss(
    logits: Float[Tensor, " B"], no_target: Bool[Tensor, " B"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """`weight` times the mean binary cross entropy of no-target logits."""
    return weight * F.binary_cross_entropy_with_logits(logits, no_target.to(logits.dtype))


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
