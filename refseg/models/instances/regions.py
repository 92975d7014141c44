"""What a detector's maps say inside boxes: RoI features, and coarse masks as prototypes times coefficients.

    stem 1/4 and pyramid 1/8 -> prototypes at 1/4 -.
    RoI feature and box -> MLP -> coefficients ----`-> sum over prototypes, sampled in the box at 28 x 28 (+ position)

Bolya et al., YOLACT, ICCV 2019 (eq. 1: M = sigmoid(P C^T)); the mask is sampled in the box rather than cropped to it.
The coarse masks of all proposals cost about as much as one fine one: they tell which pixels an instance's colours are
counted on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.vision.shufflenet import Conv, depthwise
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE

__all__ = ["CoarseMasks", "box_grid", "roi_features", "sample_boxes"]

_ROI_STRIDES = (8, 16, 32)
_ROI_POINTS = 4


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


def roi_features(pyramid: Sequence[Float[Tensor, "C _ _"]], boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K D"]:
    """The mean of 4 x 4 points of each box in the maps of strides 8, 16 and 32, one after the other; D = 3 C."""
    if not len(boxes):
        return boxes.new_zeros(0, sum(each.shape[0] for each in pyramid[: len(_ROI_STRIDES)]))
    pooled = [
        sample_boxes(maps, boxes, stride, _ROI_POINTS).mean(dim=(2, 3))
        for maps, stride in zip(pyramid, _ROI_STRIDES, strict=False)
    ]
    return torch.cat(pooled, dim=1)


class CoarseMasks(nn.Module):
    """Prototypes, coefficients, and what the place in the box says by itself."""

    def __init__(self, stem_width: int = 24, pyramid: int = 96, prototypes: int = 16, hidden: int = 96) -> None:
        super().__init__()
        self.fine = Conv(stem_width, 2 * prototypes, 1, act=False)
        self.coarse = Conv(pyramid, 2 * prototypes, 1, act=False)
        self.mix = nn.Sequential(depthwise(2 * prototypes, 5, act=True), Conv(2 * prototypes, prototypes, 1, act=False))
        self.coefficients = nn.Sequential(
            nn.Linear(FEATURE_DIM + 4, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, prototypes + 1)
        )
        self.position = nn.Parameter(torch.zeros(MASK_SIZE, MASK_SIZE))
        self.scale = prototypes**-0.5

    def prototypes(self, stem: Float[Tensor, "N _ h w"], eighth: Float[Tensor, "N _ _ _"]) -> Float[Tensor, "N P h w"]:
        """The prototypes at stride 4."""
        above = F.interpolate(self.coarse(eighth), size=stem.shape[-2:], mode="bilinear", align_corners=False)
        return self.mix(F.leaky_relu(self.fine(stem) + above, 0.1))

    def forward(
        self,
        prototypes: Float[Tensor, "P h w"],
        features: Float[Tensor, "K D"],
        boxes: Float[Tensor, "K 4"],
        side: int,
    ) -> Float[Tensor, "K M M"]:
        """Mask logits in the frames of one picture's boxes, which are in pixels of the input of side x side."""
        if not len(boxes):
            return boxes.new_zeros(0, MASK_SIZE, MASK_SIZE)
        values = self.coefficients(torch.cat([features, boxes / side], dim=1))
        inside = sample_boxes(prototypes, boxes, 4, MASK_SIZE)
        logits = torch.einsum("kpij,kp->kij", inside, values[:, :-1]) * self.scale
        return logits + values[:, -1, None, None] + self.position
