"""The losses of section 3.3: ranking against hard negatives of the same picture, and attributes.

    L_rank = sum_i  lambda_1 max(0, margin + S(o_i | r_j) - S(o_i | r_i))        another expression r_j     eq. (12)
                  + lambda_2 max(0, margin + S(o_k | r_i) - S(o_i | r_i))        another object o_k
    L_attr = - sum_i sum_t w_t [y_it log p_it + (1 - y_it) log(1 - p_it)]                                   eq. (5)

The published code draws o_k and r_j from the picture, from things of the target's class three times in ten; where the
picture has none it takes them from any other picture. Here such an expression has no such term.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from refseg.models.mattnet.config import MAttNetLosses

__all__ = [
    "Pairs",
    "attribute_loss",
    "attribute_weights",
    "match_regions",
    "ranking_losses",
    "target_loss",
]

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


def match_regions(iou: Float[Tensor, "K T"]) -> tuple[Bool[Tensor, " K"], Bool[Tensor, " K"]]:
    """Which regions are targets (the one of the largest IoU for each, from .5 on), and which are plainly none of them.

    What overlaps a target with an IoU of .5 and is not its best is neither.
    """
    positive = torch.zeros(len(iou), dtype=torch.bool, device=iou.device)
    if not iou.numel():
        return positive, ~positive
    best = iou.max(dim=0)
    positive[best.indices[best.values >= MATCH]] = True
    return positive, ~positive & (iou.amax(dim=1) < MATCH)


def ranking_losses(
    pairs: Sequence[Pairs], config: MAttNetLosses, zero: Tensor
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean hinge of another object, and of another expression, unweighted; `zero` where nothing can be compared."""
    if not pairs:
        return zero, zero
    # Negatives are chosen among plain numbers; what is chosen is compared all at once.
    counts = [len(each.scores) for each in pairs]
    starts = [sum(counts[:number]) for number in range(len(counts))]
    scores = torch.cat([each.scores for each in pairs])
    values, groups = _lists([each.scores.detach() for each in pairs]), _lists([each.groups for each in pairs])
    positive, negative = _lists([each.positive for each in pairs]), _lists([each.negative for each in pairs])
    objects: list[tuple[int, int]] = []
    expressions: list[tuple[int, int]] = []
    for number, own in enumerate(pairs):
        rows = [row for row, right in enumerate(positive[number]) if right]
        if not rows:
            continue
        # One of several targets stands for the expression.
        target = rows[int(torch.randint(len(rows), ())) if len(rows) > 1 else 0]
        right, kind = starts[number] + target, groups[number][target]
        wrong = [row for row, other in enumerate(negative[number]) if other]
        if wrong:
            same = [groups[number][row] == kind for row in wrong]
            rival = wrong[_choose([values[number][row] for row in wrong], same, config)]
            objects.append((starts[number] + rival, right))
        others = [
            index
            for index, other in enumerate(pairs)
            if index != number and other.picture == own.picture and negative[index][target]
        ]
        if others:
            same = [
                any(right and group == kind for right, group in zip(positive[index], groups[index], strict=True))
                for index in others
            ]
            rival = others[_choose([values[index][target] for index in others], same, config)]
            expressions.append((starts[rival] + target, right))
    return _hinge(scores, objects, config.margin, zero), _hinge(scores, expressions, config.margin, zero)


def _lists(values: Sequence[Tensor]) -> list[list[Any]]:
    """Tensors of one axis as plain numbers, fetched at once."""
    flat = torch.cat(list(values)).tolist()
    ends = list(accumulate(len(each) for each in values))
    return [flat[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


def _hinge(
    scores: Float[Tensor, " S"], chosen: Sequence[tuple[int, int]], margin: float, zero: Tensor
) -> Float[Tensor, ""]:
    """Mean of max(0, margin + wrong - right) over pairs of numbers (wrong, right)."""
    if not chosen:
        return zero
    wrong, right = torch.tensor(chosen, device=scores.device).T
    return (margin + scores[wrong] - scores[right]).clamp(min=0).mean()


def _choose(scores: Sequence[float], same: Sequence[bool], config: MAttNetLosses) -> int:
    """The number of a negative: the highest score, or one drawn, in `same_class` of the cases of the target's class."""
    if config.negatives == "hardest":
        return max(range(len(scores)), key=scores.__getitem__)
    wanted = float(torch.rand(())) < config.same_class
    kept = [number for number, each in enumerate(same) if each == wanted] or list(range(len(scores)))
    return kept[int(torch.randint(len(kept), ()))]


def target_loss(pairs: Sequence[Pairs], logits: Sequence[Tensor], zero: Tensor) -> Float[Tensor, ""]:
    """Mean over expressions of the binary cross-entropy of their K regions, whose number varies; those that are neither
    are left out."""
    known = [own.positive | own.negative for own in pairs]
    if not pairs or not torch.cat(known).any():
        return zero
    asked, wanted = torch.cat(list(logits)), torch.cat([own.positive for own in pairs])
    counts = torch.stack([each.sum() for each in known])
    # Each expression counts alike, whatever the number of its regions.
    share = (1 / counts.clamp(min=1) / (counts > 0).sum()).repeat_interleave(
        torch.tensor([len(each) for each in known], device=counts.device)
    )
    weight = (share * torch.cat(known)).to(asked)
    return F.binary_cross_entropy_with_logits(asked, wanted.to(asked), weight=weight, reduction="sum")


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
