"""Losses of the referring part: the choice among proposals, no target, and the pull of the weights to the rules."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from refseg.models.instances.chooser import Choice, Chooser
from refseg.models.instances.config import InstancesLosses
from refseg.nn.boxes import pair_iou
from refseg.types import Output, Targets

__all__ = ["choice_loss", "referring_losses"]


def referring_losses(chooser: Chooser, weights: InstancesLosses, output: Output, targets: Targets) -> dict[str, Tensor]:
    """Cross-entropy of the choice, of no target, and the pull of the weights to the rules.

    A proposal is a target's if their boxes have an IoU of .5; expressions none of whose targets was proposed teach
    nothing but that there is one.
    """
    assert output.no_target_logits is not None
    zero = output.no_target_logits.sum() * 0
    choices = []
    for index, choice in enumerate(output.auxiliary["choices"]):
        wanted = _target_boxes(targets, index)
        boxes = output.auxiliary["boxes"][index]
        if not len(wanted) or not len(boxes):
            continue
        right = pair_iou(boxes, wanted.to(boxes)).amax(1) >= 0.5
        if right.any():
            choices.append(choice_loss(choice, right))
    drift = (chooser.weights - chooser.rules) / chooser.rules.abs().clamp(min=0.3)
    return {
        "choice": weights.choice * (torch.stack(choices).mean() if choices else zero),
        "no_target": weights.no_target
        * F.binary_cross_entropy_with_logits(output.no_target_logits, targets.no_target.to(zero)),
        "anchor": weights.anchor * drift.square().mean(),
    }


def choice_loss(choice: Choice, right: Bool[Tensor, " K"]) -> Float[Tensor, ""]:
    """How surprising the right proposals are: of a single thing the negative log of their share of the evidence, of a
    set the mean binary cross-entropy of right and wrong ones, each counting half."""
    if len(choice.evidence) == 1 and not choice.several:
        evidence = choice.evidence[0]
        return torch.logsumexp(evidence, 0) - torch.logsumexp(evidence[right], 0)
    logits = choice.logits.clamp(-6, 6)
    taken = F.softplus(-logits[right]).mean()
    left = F.softplus(logits[~right]).topk(min(5, int((~right).sum()))).values.mean() if (~right).any() else 0 * taken
    return (taken + left) / 2


def _target_boxes(targets: Targets, index: int) -> Float[Tensor, "T 4"]:
    """Boxes of an expression's targets in pixels of the input; of their union where they are not given one by one."""
    masks = targets.masks[index][None] if targets.instances is None else targets.instances[index]
    boxes = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if len(rows):
            boxes.append(torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float())
    return torch.stack(boxes) if boxes else torch.zeros(0, 4)
