"""Boxes: the head that says one for each query, and what leads from masks to boxes and back.

Boxes are cxcywh, 0 to 1 of the picture without padding. `content` says where that picture lies on the network's input:
left, top, width and height, 0 to 1 of the input with padding.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.nn.attention import Perceptron

__all__ = ["BoxHead", "boxes_of_masks", "content_of", "corners", "filled_boxes"]


class BoxHead(nn.Module):
    """A perceptron of `layers` linear layers and a sigmoid. The last layer starts at zero: the box in the middle."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.perceptron = Perceptron(width, 4, layers)
        last = self.perceptron.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, queries: Float[Tensor, "*B C"]) -> Float[Tensor, "*B 4"]:
        """One box a query."""
        return self.perceptron(queries).float().sigmoid()


def corners(boxes: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """cxcywh to xyxy, in the same unit."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def content_of(pixel_mask: Bool[Tensor, "N H W"]) -> Float[Tensor, "N 4"]:
    """Where the real pixels lie: left, top, width, height, 0 to 1 of the input."""
    left, top, right, bottom = _extent(pixel_mask)
    return torch.stack([left, top, right - left, bottom - top], dim=1)


def boxes_of_masks(masks: Bool[Tensor, "K H W"], content: Float[Tensor, "K 4"]) -> Float[Tensor, "K 4"]:
    """The box around each mask; zeros where a mask is empty."""
    edges = torch.stack(_extent(masks), dim=1)
    edges = (edges - content[:, :2].repeat(1, 2)) / content[:, 2:].clamp(min=1e-6).repeat(1, 2)
    boxes = torch.cat([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], dim=1)
    return boxes * masks.flatten(1).any(dim=1)[:, None]


def filled_boxes(
    boxes: Float[Tensor, "K 4"], content: Float[Tensor, "K 4"], size: tuple[int, int]
) -> Float[Tensor, "K h w"]:
    """The inside of each box as mask logits: how many cells of the (h, w) map lie between a cell's centre and the
    nearest edge, negative outside. This is how a model without a mask head answers with a mask."""
    height, width = size
    edges = corners(boxes) * content[:, 2:].repeat(1, 2) + content[:, :2].repeat(1, 2)
    left, top, right, bottom = (edge[:, None] for edge in edges.unbind(dim=1))
    columns = (torch.arange(width, device=boxes.device) + 0.5) / width
    rows = (torch.arange(height, device=boxes.device) + 0.5) / height
    across = torch.minimum(columns - left, right - columns) * width
    down = torch.minimum(rows - top, bottom - rows) * height
    return torch.minimum(down[:, :, None], across[:, None, :])


def _extent(masks: Bool[Tensor, "K H W"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right and bottom edge of each mask (K,), 0 to 1; of an empty one all are 0."""
    edges = []
    for axis in (2, 1):
        line = masks.any(dim=3 - axis).float()
        length = line.shape[1]
        first = line.argmax(dim=1)
        last = length - line.flip(1).argmax(dim=1)
        some = line.any(dim=1)
        edges.append((first * some / length, last * some / length))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
