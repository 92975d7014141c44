"""Which things a region is seen beside, and where they lie: the geometry of the location and relationship modules.

Boxes are x0 y0 x1 y1, 0 to 1 of the image; nearness is the distance of centers in pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["absolute_location", "context_regions", "offsets", "same_class_neighbors"]


def absolute_location(
    boxes: Float[Tensor, "K 4"], size: tuple[int, int], inclusive: bool = False
) -> Float[Tensor, "K 5"]:
    """l_i = [x_tl / W, y_tl / H, x_br / W, y_br / H, w h / (W H)] (section 3.2.2); `inclusive` ends boxes one pixel
    earlier, at an image of `size` (height, width)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    ends = boxes[:, 2:]
    if inclusive:
        ends = ends - boxes.new_tensor([1 / size[1], 1 / size[0]])
    return torch.cat([boxes[:, :2], ends, sides.prod(dim=1, keepdim=True)], dim=1)


def offsets(
    boxes: Float[Tensor, "K 4"], others: Int[Tensor, "K J"], origin: Literal["corner", "center"]
) -> Float[Tensor, "K J 5"]:
    """Where other boxes lie, in sides of each box: [dx_tl / w, dy_tl / h, dx_br / w, dy_br / h, w_j h_j / (w h)].

    `others` are numbers of boxes, -1 for none, whose row is zeros. `origin` "corner" measures corners from the box's
    same corners (section 3.2.2), "center" both from its center (published code).
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    chosen = boxes[others.clamp(min=0)] if len(boxes) else boxes.new_zeros(*others.shape, 4)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    start = boxes if origin == "corner" else torch.cat([center, center], dim=1)
    away = (chosen - start[:, None]) / torch.cat([sides, sides], dim=1)[:, None]
    areas = (chosen[..., 2:] - chosen[..., :2]).prod(dim=-1) / sides.prod(dim=1)[:, None]
    return torch.cat([away, areas[..., None]], dim=-1) * (others >= 0)[..., None]


def same_class_neighbors(
    boxes: Float[Tensor, "K 4"], classes: Int[Tensor, " K"], size: tuple[int, int], count: int
) -> Int[Tensor, "K J"]:
    """The nearest `count` other boxes of each box's class, nearest first; -1 where there are fewer."""
    apart = _distances(boxes, size)
    same = classes[:, None] == classes
    return _nearest(apart.masked_fill(~same, torch.inf), count)


def context_regions(
    boxes: Float[Tensor, "K 4"],
    classes: Int[Tensor, " K"],
    size: tuple[int, int],
    count: int,
    order: Literal["nearest", "other_first"],
) -> Int[Tensor, "K J"]:
    """The nearest `count` boxes around each box, nearest first, or those of other classes before those of its own."""
    apart = _distances(boxes, size)
    if order == "other_first" and len(boxes):
        finite = apart[apart.isfinite()]
        farther = float(finite.max()) + 1.0 if len(finite) else 1.0
        apart = apart + farther * (classes[:, None] == classes)
    return _nearest(apart, count)


def _distances(boxes: Float[Tensor, "K 4"], size: tuple[int, int]) -> Float[Tensor, "K K"]:
    """Distances of centers in pixels; infinite from a box to itself."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 * boxes.new_tensor([size[1], size[0]])
    apart = (centers[:, None] - centers).norm(dim=-1)
    return apart + torch.diag(torch.full((len(boxes),), torch.inf, device=boxes.device))


def _nearest(apart: Float[Tensor, "K K"], count: int) -> Int[Tensor, "K J"]:
    kept = apart.sort(dim=1, stable=True)
    found = kept.indices.masked_fill(kept.values.isinf(), -1)[:, :count]
    return torch.nn.functional.pad(found, (0, count - found.shape[1]), value=-1)
