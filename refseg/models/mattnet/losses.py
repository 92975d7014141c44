"""The losses of section 3.3: ranking against hard negatives of the same picture, and attributes.

    L_rank = sum_i  lambda_1 max(0, margin + S(o_i | r_j) - S(o_i | r_i))        another expression r_j     eq. (12)
                  + lambda_2 max(0, margin + S(o_k | r_i) - S(o_i | r_i))        another object o_k
    L_attr = - sum_i sum_t w_t [y_it log p_it + (1 - y_it) log(1 - p_it)]                                   eq. (5)

The published code draws o_k and r_j from the picture, from things of the target's class three times in ten; where the
picture has none it takes them from any other picture. Here such an expression has no such term.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from refseg.models.mattnet.config import MAttNetLosses

__all__ = ["Pairs", "attribute_loss", "attribute_weights", "match_regions", "ranking_losses", "target_loss"]

MATCH = 0.5
"""IoU from which a region is taken for a target, and below which it is another thing."""


class Pairs:
    """The scores of one expression for the K regions of its picture, and which of them are right and wrong."""

    def __init__(
        self,
        picture: int,
        scores: Float[Tensor, " K"],
        groups: Int[Tensor, " K"],
        positive: Bool[Tensor, " K"],
        negative: Bool[Tensor, " K"],
    ) -> None:
        self.picture, self.scores, self.groups = picture, scores, groups
        self.positive, self.negative = positive, negative


def match_regions(
    boxes: Float[Tensor, "K 4"], targets: Float[Tensor, "T 4"]
) -> tuple[Bool[Tensor, " K"], Bool[Tensor, " K"]]:
    """Which regions are targets (the one of the largest IoU for each, from .5 on), and which are plainly none of them.

    Boxes are x0 y0 x1 y1 in the same units. What overlaps a target with an IoU of .5 and is not its best is neither.
    """
    positive = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    if not len(boxes) or not len(targets):
        return positive, ~positive
    low, high = torch.maximum(boxes[:, None, :2], targets[:, :2]), torch.minimum(boxes[:, None, 2:], targets[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(dim=1) for each in (boxes, targets)]
    iou = shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)
    best = iou.max(dim=0)
    positive[best.indices[best.values >= MATCH]] = True
    return positive, ~positive & (iou.amax(dim=1) < MATCH)


def ranking_losses(
    pairs: Sequence[Pairs], config: MAttNetLosses, zero: Tensor
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean hinge of another object, and of another expression, unweighted; `zero` where nothing can be compared."""
    objects, expressions = [], []
    for number, own in enumerate(pairs):
        if not own.positive.any():
            continue
        # One of several targets stands for the expression.
        rows = own.positive.nonzero()[:, 0]
        target = int(rows[int(torch.randint(len(rows), ())) if len(rows) > 1 else 0])
        right = own.scores[target]
        wrong = own.negative.nonzero()[:, 0]
        if len(wrong):
            same = own.groups[wrong] == own.groups[target]
            rival = _choose(own.scores[wrong], same, config)
            objects.append((config.margin + own.scores[wrong[rival]] - right).clamp(min=0))
        others = [
            other
            for index, other in enumerate(pairs)
            if index != number and other.picture == own.picture and bool(other.negative[target])
        ]
        if others:
            scores = torch.stack([other.scores[target] for other in others])
            groups = torch.stack([(other.groups[other.positive] == own.groups[target]).any() for other in others])
            expressions.append((config.margin + scores[_choose(scores, groups, config)] - right).clamp(min=0))
    return tuple(torch.stack(each).mean() if each else zero for each in (objects, expressions))  # type: ignore[return-value]


def _choose(scores: Float[Tensor, " J"], same: Bool[Tensor, " J"], config: MAttNetLosses) -> int:
    """The number of a negative: the highest score, or one drawn, in `same_class` of the cases of the target's class."""
    if config.negatives == "hardest":
        return int(scores.detach().argmax())
    rows = torch.arange(len(scores), device=scores.device)
    wanted = same if float(torch.rand(())) < config.same_class else ~same
    kept = rows[wanted] if wanted.any() else rows
    return int(kept[torch.randint(len(kept), ())])


def target_loss(pairs: Sequence[Pairs], logits: Sequence[Tensor], zero: Tensor) -> Float[Tensor, ""]:
    """Mean over expressions of the binary cross-entropy of their K regions, whose number varies; those that are neither
    are left out."""
    losses = []
    for own, each in zip(pairs, logits, strict=True):
        known = own.positive | own.negative
        if known.any():
            losses.append(F.binary_cross_entropy_with_logits(each[known], own.positive[known].to(each)))
    return torch.stack(losses).mean() if losses else zero


def attribute_weights(counts: Sequence[int], kind: str) -> list[float]:
    """w_t of attributes that occur so often: 1 / sqrt(n), or that rescaled to 1 for the commonest and 10 for the
    rarest."""
    roots = [count**-0.5 for count in counts]
    if kind == "inverse_root" or not roots:
        return roots
    low, high = min(roots), max(roots)
    return [1.0 + 9.0 * (root - low) / (high - low) if high > low else 1.0 for root in roots]


def attribute_loss(
    logits: Sequence[Float[Tensor, " T"]],
    held: Sequence[Bool[Tensor, " T"]],
    weights: Float[Tensor, " T"],
    zero: Tensor,
) -> Float[Tensor, ""]:
    """Mean weighted binary cross-entropy over targets of which at least one attribute is known."""
    rows = [(each, known) for each, known in zip(logits, held, strict=True) if known.any()]
    if not rows:
        return zero
    told, wanted = (torch.stack([row[index] for row in rows]) for index in (0, 1))
    return F.binary_cross_entropy_with_logits(told, wanted.to(told), weight=weights)
