"""Relations: how plausible it is that one thing stands to another one as a link says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refseg.models.instances.evidence import SOFT, TINY, Evaluated, Layout
from refseg.models.instances.structure import Relation

__all__ = ["between", "related", "relation"]


def related(
    link: Relation, anchors: Sequence[Evaluated], layout: Layout, least_score: float
) -> tuple[Tensor, Tensor] | None:
    """Log plausibility of a relation for each of K proposals (K,), and what speaks against the anchors' being there ();
    None where two things to lie between are not told apart.

    Args:
        anchors: what the link leads to, evaluated over the proposals.
        least_score: fit at which something is as likely there as not.
    """
    if link.kind == "between" and not link.negated:
        found = _between(anchors, layout)
        return None if found is None else (found, anchors[0].mismatch)
    first = anchors[0]
    # How far the anchor is there at all: an anchor that nobody sees says nothing.
    there = (first.fit.max() / least_score).clamp(max=1).detach()
    share = torch.softmax(2 * first.evidence, 0)
    if link.anchors[0].many:
        share = first.member / first.member.sum().clamp(min=TINY)
    holds = relation(link.kind, layout)
    same = torch.eye(len(layout), dtype=torch.bool, device=layout.iou.device) | (layout.iou > 0.75)
    # What is the anchor is not what stands to it.
    holds = torch.where(same, holds.new_tensor(-6.0), holds)
    log = torch.logsumexp(holds + (share + 1e-6).log()[None, :], 1).clamp(min=-5)
    if link.negated:
        # Of what nobody sees, everything is without.
        return (1 - 0.95 * there * log.exp()).log(), torch.zeros_like(first.mismatch)
    if link.kind == "nearest":
        log = log * 1.5
    return log * there, first.mismatch


def _between(anchors: Sequence[Evaluated], layout: Layout) -> Tensor | None:
    """Log plausibility of lying between two anchors, or the two best things of one; None if there are not two."""
    if len(anchors) == 1:
        found = anchors[0]
        strength = found.evidence.detach() + 4 * found.member.clamp(min=TINY).log()
        if len(strength) < 3:
            return None
        first, second = strength.topk(2).indices.tolist()
    else:
        first, second = (int(found.evidence.argmax()) for found in anchors[:2])
    if first == second:
        return None
    return between(layout, first, second)


def relation(kind: str, layout: Layout) -> Float[Tensor, "K K"]:
    """Log plausibility (at most 0) that thing i stands in a relation to thing j; the diagonal is not excluded here.

    `kind` is a name of `vocabulary.LINKS`; unknown ones hold of everything.
    """
    x, y, foot = layout.x, layout.y, layout.foot

    def ahead(values: Tensor, sign: float) -> Tensor:
        """Log probability that j lies beyond i."""
        return torch.nn.functional.logsigmoid(sign * (values[None, :] - values[:, None]) / SOFT)

    near = -(layout.gap / 0.12).clamp(max=3)
    aligned = (0.15 + 0.85 * layout.across.clamp(0, 1)).log()
    if kind == "left_of":
        return ahead(x, 1.0) + 0.3 * near
    if kind == "right_of":
        return ahead(x, -1.0) + 0.3 * near
    if kind == "above":
        return ahead(y, 1.0) + 0.5 * aligned + 0.3 * near
    if kind == "under":
        return ahead(y, -1.0) + 0.5 * aligned + 0.3 * near
    if kind == "behind":
        return ahead(foot, 1.0) + 0.5 * aligned + 0.5 * near
    if kind == "in_front_of":
        return ahead(foot, -1.0) + 0.5 * aligned + 0.5 * near
    if kind == "on":
        return ahead(y, 1.0) + (0.1 + 0.9 * layout.across.clamp(0, 1)).log() + near
    if kind == "in":
        return (0.05 + 0.95 * layout.inside.clamp(0, 1)).log()
    if kind in ("with", "of"):
        return (0.05 + 0.95 * layout.inside.T.clamp(0, 1)).log() * 0.7 + 0.3 * near
    if kind in ("next_to", "nearest"):
        level = -((foot[:, None] - foot).abs() / 0.25).clamp(max=2)
        return (0.0 if kind == "nearest" else 0.3) * level + near - (layout.apart / 0.3).clamp(max=3)
    return torch.zeros_like(layout.iou)


def between(layout: Layout, first: int, second: int) -> Float[Tensor, " K"]:
    """Log plausibility (-5 to 0) that each thing lies between two others: its centre falls on the line from one centre
    to the other, near the middle, and not far aside."""
    x, y = layout.x, layout.y
    one, two = torch.stack([x[first], y[first]]), torch.stack([x[second], y[second]])
    line = two - one
    length = line.norm().clamp(min=1e-3)
    along = ((x - one[0]) * line[0] + (y - one[1]) * line[1]) / length / length
    aside = ((x - one[0]) * line[1] - (y - one[1]) * line[0]).abs() / length
    sigmoid = torch.nn.functional.logsigmoid
    log = sigmoid(along / 0.06) + sigmoid((1 - along) / 0.06) - aside / 0.25 - (along - 0.5).abs()
    log = log.clone()
    log[[first, second]] = -5.0
    return log.clamp(min=-5)
