"""RefTR's heads: boxes, and DETR's mask head (Carion et al., ECCV 2020, section 4.4) with one input more.

    attention of the query over the map (8 heads) -.
    the fused map -----------------------------------> conv conv -> x2 + skip -> conv -> x2 + skip -> conv -> x2 + skip
    the image's map ---------------------------------'                                           -> conv -> conv: logits

Skips are the encoder's maps of strides 16, 8 and 4. Boxes are cxcywh, 0 to 1 of the image without padding; `content`
says where that image lies on the network's input: left, top, width and height, 0 to 1 of the input with padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.nn.attention import MLP
from refseg.nn.boxes import corners
from refseg.nn.conv import channels_last, group_norm
from refseg.nn.parts import Part, as_parts, conv_enlarged, conv_parts, rows_of

__all__ = ["AttentionMaps", "BoxHead", "MaskHead", "boxes_of_masks", "content_of", "filled_boxes"]

SKIPS = (16, 8, 4)
"""Strides of the encoder's maps that come in on the way up."""


class BoxHead(nn.Module):
    """An MLP of `layers` linear layers and a sigmoid. The last layer starts at zero: the box in the middle."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.mlp = MLP(width, 4, layers)
        last = self.mlp.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, queries: Float[Tensor, "*B C"]) -> Float[Tensor, "*B 4"]:
        """One box a query."""
        return self.mlp(queries).float().sigmoid()


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


class AttentionMaps(nn.Module):
    """Where each query looks, head by head. One softmax runs over all heads and pixels together, as in DETR's code."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"heads={heads} does not divide width={width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        for layer in (self.query, self.key):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: Float[Tensor, "B P C"],
        maps: Float[Tensor, "B C h w"],
        mask: Bool[Tensor, "B h w"],
    ) -> Float[Tensor, "B P n h w"]:
        """`mask` is True on real pixels; the others get nothing. For each query the answer sums to 1."""
        asking = self.query(queries).unflatten(2, (self.heads, -1))
        keys = self.key(maps.flatten(2).transpose(1, 2)).unflatten(2, (self.heads, -1))
        scores = torch.einsum("bpnc,btnc->bpnt", asking * asking.shape[-1] ** -0.5, keys)
        scores = scores.masked_fill(~mask.flatten(1)[:, None, None], float("-inf"))
        return scores.flatten(2).softmax(dim=-1).view_as(scores).unflatten(3, mask.shape[1:])


class MaskHead(nn.Module):
    """Convolutions with group normalisation that double the size three times.

    `inputs` channels come in; on the way up there are width/2, width/4, width/8 and width/16 of them; `channels` are
    those of the encoder's maps by stride.
    """

    def __init__(self, inputs: int, width: int, channels: dict[int, int], groups: int) -> None:
        super().__init__()
        if width % 16:
            raise ConfigError(f"width={width}: the mask head wants a multiple of 16")
        widths = [inputs, inputs, width // 2, width // 4, width // 8, width // 16]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(group_norm(after, groups) for after in widths[1:])
        self.skips = nn.ModuleList(
            nn.Conv2d(channels[stride], after, kernel_size=1) for stride, after in zip(SKIPS, widths[2:5], strict=True)
        )
        self.logits = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def encode(self, maps: dict[int, Tensor]) -> list[Float[Tensor, "N _ _ _"]]:
        """What comes in on the way up, from the encoder's maps: once an image, for all its expressions."""
        return [skip(maps[stride]) for skip, stride in zip(self.skips, SKIPS, strict=True)]

    def forward(
        self,
        inputs: Float[Tensor, "K D h w"] | Sequence[Part],
        skips: Sequence[Float[Tensor, "N _ _ _"]],
        image_index: Int[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, "K u v"], Float[Tensor, "K E u v"]]:
        """Mask logits at stride 4, and the features (width/16 channels) that they come from; `image_index[k]` is the
        image of row k, whose skips it reads, None means one to one."""
        parts = [part._replace(maps=channels_last(part.maps)) for part in as_parts(inputs)]
        first = self.convs[0]
        assert isinstance(first, nn.Conv2d)
        maps = F.relu(self.norms[0](conv_parts(parts, first.weight, first.bias, (1, 1))))
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            assert isinstance(conv, nn.Conv2d)
            if index == 0:
                continue
            if index == 1:
                maps = conv(maps)
            else:
                maps = _conv_with_skip(conv, maps, skips[index - 2], image_index)
            maps = F.relu(norm(maps))
        return self.logits(maps)[:, 0], maps


def _conv_with_skip(
    conv: nn.Conv2d,
    maps: Float[Tensor, "K D h w"],
    skip: Float[Tensor, "N D u v"],
    image_index: Int[Tensor, " K"] | None,
) -> Float[Tensor, "K E u v"]:
    """The convolution of the enlarged map and its image's skip, added: of each alone, which is the same."""
    if (2 * maps.shape[2], 2 * maps.shape[3]) != (skip.shape[2], skip.shape[3]):
        return conv(rows_of(skip, image_index) + F.interpolate(maps, size=skip.shape[-2:], mode="nearest"))
    of_image = F.conv2d(channels_last(skip), conv.weight, padding=conv.padding)
    return conv_enlarged(conv, maps) + rows_of(of_image, image_index)
