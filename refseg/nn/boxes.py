"""Boxes: forms, overlaps, values of maps inside of them, and their masks back in the image.

Sampling is bilinear, at the centres of equal cells, as in RoIAlign (He et al., Mask R-CNN, ICCV 2017, section 3) with
one point a cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["OUTSIDE", "box_grid", "centred", "corners", "pair_iou", "paste_coarse", "pixels_of", "sample_boxes"]

OUTSIDE = -10.0
"""The logit of a pixel outside of every box."""


def centred(boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K 4"]:
    """x0 y0 x1 y1 to cxcywh, in the same unit."""
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)


def corners(boxes: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """cxcywh to x0 y0 x1 y1, in the same unit."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def pixels_of(boxes: Float[Tensor, "K 4"], content: tuple[int, int, int, int]) -> Float[Tensor, "K 4"]:
    """Boxes x0 y0 x1 y1, 0 to 1 of an image, in pixels of the input; `content` is top, left, bottom, right of the
    image there."""
    top, left, bottom, right = content
    return boxes * boxes.new_tensor([right - left, bottom - top] * 2) + boxes.new_tensor([left, top] * 2)


def pair_iou(first: Float[Tensor, "K 4"], second: Float[Tensor, "J 4"]) -> Float[Tensor, "K J"]:
    """Intersection over union of every pair of boxes x0 y0 x1 y1; 0 for a pair without area."""
    sides = torch.minimum(first[:, None, 2:], second[None, :, 2:]) - torch.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(dim=-1) for each in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=torch.finfo(shared.dtype).tiny)


def box_grid(boxes: Float[Tensor, "K 4"], points: int) -> Float[Tensor, "K M M 2"]:
    """x, y of the centres of M x M equal cells of each box x0 y0 x1 y1, in the boxes' units."""
    steps = (torch.arange(points, device=boxes.device) + 0.5) / points
    across = boxes[:, None, 0] + (boxes[:, None, 2] - boxes[:, None, 0]) * steps
    down = boxes[:, None, 1] + (boxes[:, None, 3] - boxes[:, None, 1]) * steps
    return torch.stack([across[:, None].expand(-1, points, -1), down[:, :, None].expand(-1, -1, points)], dim=-1)


def sample_boxes(
    maps: Float[Tensor, "C h w"], boxes: Float[Tensor, "K 4"], stride: int, points: int
) -> Float[Tensor, "K C M M"]:
    """A map at M x M points of each box, bilinear; boxes are in pixels of the network's input.

    Cell (i, j) of a map lies at pixel (stride * j, stride * i), where the detector's boxes start from; points beyond
    the outer cells take those.
    """
    height, width = maps.shape[-2:]
    grid = box_grid(boxes, points) / stride
    extent = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=grid.dtype, device=grid.device)
    rows = (grid / extent * 2 - 1).view(1, -1, points, 2)
    sampled = F.grid_sample(maps[None], rows, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled[0].unflatten(1, (-1, points)).transpose(0, 1)


def paste_coarse(logits: Float[Tensor, "M M"], box: Float[Tensor, " 4"], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """A coarse mask where its box lies in an image of `size`; `OUTSIDE` beyond the box."""
    height, width = size
    x0, y0, x1, y1 = (box.double() * torch.tensor([width, height, width, height])).tolist()
    columns = (torch.arange(width) + 0.5 - x0) / max(x1 - x0, 1e-6) * 2 - 1
    rows = (torch.arange(height) + 0.5 - y0) / max(y1 - y0, 1e-6) * 2 - 1
    grid = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1).float()
    values = F.grid_sample(logits[None, None].float(), grid[None], padding_mode="border", align_corners=False)[0, 0]
    inside = (columns.abs() <= 1)[None] & (rows.abs() <= 1)[:, None]
    return torch.where(inside, values, values.new_tensor(OUTSIDE))
