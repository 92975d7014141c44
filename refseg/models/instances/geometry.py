"""How boxes lie in the picture and to each other, computed once a picture for all expressions about it.

Lengths are fractions of the picture's longer side, so that a square stays one; x to the right, y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Layout", "between", "direction_of_hour", "lay_out", "relation"]

SOFT = 0.02
"""Width of the step from left to right and the like, where two centres are as good as level."""
SAME_IOU, INSIDE = 0.6, 0.85
"""Boxes of two proposals of one thing: their IoU, or the share of the less certain one that lies in the other."""


@dataclass(frozen=True)
class Layout:
    """Boxes of K proposals in the picture's own proportions, and how they lie to each other."""

    x: Float[Tensor, " K"]
    """Centres."""
    y: Float[Tensor, " K"]
    width: Float[Tensor, " K"]
    height: Float[Tensor, " K"]
    foot: Float[Tensor, " K"]
    """Lower edges."""
    area: Float[Tensor, " K"]
    """As a share of the picture."""
    middle: tuple[float, float]
    """The picture's centre."""
    cut: Float[Tensor, " K"]
    """0 to 1: how closely a box reaches an edge of the picture, so that the thing may be cut off there."""
    iou: Float[Tensor, "K K"]
    inside: Float[Tensor, "K K"]
    """[i, j]: the share of box i that lies in box j."""
    gap: Float[Tensor, "K K"]
    """Distance between the boxes' edges, 0 where they overlap."""
    apart: Float[Tensor, "K K"]
    """Distance between the centres."""
    across: Float[Tensor, "K K"]
    """Overlap of the boxes' x ranges as a share of the narrower one."""

    def __len__(self) -> int:
        return len(self.x)

    def doubles(self, fit: Float[Tensor, " K"]) -> Bool[Tensor, " K"]:
        """Proposals of a thing that a better fitting one shows already."""
        # NumPy: these are many steps on a few numbers.
        values, area, iou, inside = (each.cpu().numpy() for each in (fit, self.area, self.iou, self.inside))
        order = np.argsort(-values, kind="stable")
        # What fits hardly at all counts for nothing, shown twice or not.
        order = order[values[order] > 0.03 * values[order[:1]]]
        both = np.ix_(order, order)
        values, area = values[order], area[order]
        less = values[:, None] < 0.6 * values
        large = area[:, None] > 0.15 * area
        same = (iou[both] > SAME_IOU) | ((inside[both] > INSIDE) & less & large)
        kept = np.zeros(len(order), dtype=bool)
        for row in range(len(order)):  # greedy: what is suppressed itself suppresses nothing
            kept[row] = not same[row, kept].any()
        found = np.zeros(len(fit), dtype=bool)
        found[order[~kept]] = True
        return torch.from_numpy(found).to(fit.device)


def lay_out(boxes: Float[Tensor, "K 4"], size: tuple[int, int]) -> Layout:
    """The layout of boxes x0 y0 x1 y1 (0 to 1) in a picture of `size` (height, width)."""
    height, width = float(size[0]), float(size[1])
    longer = max(height, width, 1.0)
    scale = boxes.new_tensor([width / longer, height / longer] * 2)
    placed = boxes.float() * scale
    x0, y0, x1, y1 = placed.unbind(1)
    wide, high = (x1 - x0).clamp(min=1e-4), (y1 - y0).clamp(min=1e-4)
    across = torch.minimum(x1[:, None], x1) - torch.maximum(x0[:, None], x0)
    down = torch.minimum(y1[:, None], y1) - torch.maximum(y0[:, None], y0)
    shared = across.clamp(min=0) * down.clamp(min=0)
    areas = wide * high
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    to_edge = torch.stack([x0, y0, scale[0] - x1, scale[1] - y1]).clamp(min=0).amin(0)
    return Layout(
        x=x,
        y=y,
        width=wide,
        height=high,
        foot=y1,
        area=areas / (scale[0] * scale[1]),
        middle=(float(scale[0]) / 2, float(scale[1]) / 2),
        cut=(1 - to_edge / SOFT).clamp(min=0),
        iou=shared / (areas[:, None] + areas - shared),
        inside=shared / areas[:, None],
        gap=torch.hypot((-across).clamp(min=0), (-down).clamp(min=0)),
        apart=torch.hypot(x[:, None] - x, y[:, None] - y),
        across=across.clamp(min=0) / torch.minimum(wide[:, None], wide),
    )


def direction_of_hour(hour: int) -> tuple[float, float]:
    """(x, y) of an hour on a clock face in the middle of the picture, length 1."""
    angle = 2 * math.pi * hour / 12
    return math.sin(angle), -math.cos(angle)


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
