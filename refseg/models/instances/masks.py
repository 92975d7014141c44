"""Masks of instances: a coarse one of every proposal, and fine ones of those that are chosen.

Coarse: prototypes times coefficients (Bolya et al., YOLACT, ICCV 2019, eq. 1: M = sigmoid(P C^T)), sampled in the box
rather than cropped to it. All of them cost about as much as one fine one; colours are counted on their pixels.

    stem 1/4 and pyramid 1/8 -> prototypes at 1/4 -.
    RoI feature and box -> MLP -> coefficients ----`-> sum over prototypes, sampled in the box at 28 x 28 (+ position)

Fine: a crop around the box, a trunk that learnt to segment, and a small decoder up to every pixel:

    picture, box -> crop of 97 x 97 pixels: the box and an eighth of its sides around it
        DeepLab trunk: 1/16 (256 + 96) -> 1/8 (+ 32) -> 1/4 (+ 24) -> 1/2 (+ pixels) -> 1/1 (+ pixels) -> logit

A box of 300 pixels gets a logit every 4 pixels, a smaller one finer. The head runs for instances that were chosen, so
that its cost does not grow with the number of proposals.
All grids are aligned at their corners: cell j of a map at stride s lies at pixel s * j of the crop, the first and last
of which lie on the edges of the frame. The decoder goes from coarse to fine as in U-Net (Ronneberger et al., 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config
from refseg.encoders.vision.mobilenet import DeepLabMaps, DeepLabTrunk
from refseg.encoders.vision.nanodet import Conv, depthwise
from refseg.errors import ConfigError
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE
from refseg.nn.boxes import OUTSIDE, sample_boxes

__all__ = [
    "CROP",
    "CoarseMasks",
    "InstanceMasks",
    "MaskDecoder",
    "MaskDecoderConfig",
    "crop_of",
    "frame_of",
    "mask_loss",
    "paste",
    "roi_features",
]

CROP = 129
"""Side of the largest crops, of which the decoder knows each place; smaller ones take places between."""
MARGIN = 0.125
"""Of the box's sides, added on each side."""


_ROI_STRIDES = (8, 16, 32)
_ROI_POINTS = 4


@dataclass(frozen=True)
class MaskDecoderConfig(Config):
    """Channels of the decoder, from coarse to fine."""

    coarse: int = 64
    """At strides 16 and 8."""
    middle: int = 40
    """At stride 4."""
    fine: int = 16
    """At strides 2 and 1."""
    crop: int = 97
    """Side of a crop when answering, a multiple of 16 plus 1: as in training, or masks get worse (mean IoU .746 at 129
    where .766 was reached at 97, the side of training)."""

    def check(self) -> None:
        if self.crop < 33 or self.crop % 16 != 1:
            raise ConfigError(f"masks.crop={self.crop}: a multiple of 16 plus 1, from 33 on, is wanted")
        if min(self.coarse, self.middle, self.fine) < 1:
            raise ConfigError("masks: coarse, middle and fine are channels, 1 or more")


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


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU(inplace=True))


def _up(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=True)


class MaskDecoder(nn.Module):
    """Logits of every pixel of a crop, from the trunk's maps and the pixels."""

    def __init__(self, config: MaskDecoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MaskDecoderConfig()
        side = (CROP - 1) // 16 + 1
        self.reduce = nn.Conv2d(256 + 96, config.coarse, 1)
        # Where in the frame a cell lies says how likely it is inside, before anything is seen.
        self.position = nn.Parameter(torch.zeros(1, config.coarse, side, side))
        self.coarse = _conv(config.coarse, config.coarse)
        self.eighth = _conv(config.coarse + 32, config.coarse)
        self.quarter = nn.Sequential(_conv(config.coarse + 24, config.middle), _conv(config.middle, config.middle))
        self.pixels = _conv(3, 12, stride=2)
        self.second = nn.Sequential(_conv(config.middle + 12, config.fine), _conv(config.fine, config.fine))
        self.narrow = nn.Conv2d(config.fine, 4, 1)  # before the largest maps: they cost most
        self.first = nn.Sequential(_conv(4 + 3, 8), nn.Conv2d(8, 1, 1))
        self.rough = nn.Conv2d(config.middle, 1, 1)

    def forward(
        self, crops: Float[Tensor, "N 3 S S"], maps: DeepLabMaps
    ) -> tuple[Float[Tensor, "N S S"], Float[Tensor, "N s s"]]:
        """Logits of every pixel, and of every fourth one from the map at stride 4 (for a loss in training).

        `crops` are RGB / 128 - 1.
        """
        reduced = self.reduce(torch.cat([maps.context, maps.coarse], dim=1))
        coarse = F.relu(reduced + _up(self.position, reduced))
        coarse = coarse + self.coarse(coarse)
        eighth = self.eighth(torch.cat([_up(coarse, maps.middle), maps.middle], dim=1))
        quarter = self.quarter(torch.cat([_up(eighth, maps.fine), maps.fine], dim=1))
        pixels = self.pixels(crops)
        half = self.second(torch.cat([_up(quarter, pixels), pixels], dim=1))
        full = self.first(torch.cat([_up(self.narrow(half), crops), crops], dim=1))
        rough = self.rough(quarter)
        # The fine layers correct what the map at stride 4 says.
        return (full + _up(rough, crops))[:, 0], rough[:, 0]


class InstanceMasks(nn.Module):
    """Trunk and decoder."""

    def __init__(self, config: MaskDecoderConfig | None = None) -> None:
        super().__init__()
        self.trunk = DeepLabTrunk()
        self.decoder = MaskDecoder(config)
        self.config = self.decoder.config

    def forward(self, crops: UInt8[Tensor, "N S S 3"]) -> tuple[Float[Tensor, "N S S"], Float[Tensor, "N s s"]]:
        """Logits of crops as `crop_of` makes them; see `MaskDecoder`."""
        pixels = crops.permute(0, 3, 1, 2).float() / 128 - 1
        return self.decoder(pixels, self.trunk(pixels))

    @torch.inference_mode()
    def predict(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        boxes: Float[np.ndarray, "K 4"],
        batch: int = 8,
        crop: int | None = None,
    ) -> Float[np.ndarray, "K H W"]:
        """Mask logits at the picture's own size for boxes x0 y0 x1 y1 in pixels; -10 outside of a box's frame.

        `crop` is the side of the crops instead of the configured one, a multiple of 16 plus 1.
        """
        side = self.config.crop if crop is None else crop
        result = np.full((len(boxes), *image.shape[:2]), OUTSIDE, dtype=np.float32)
        for start in range(0, len(boxes), batch):
            part = boxes[start : start + batch]
            crops = torch.from_numpy(np.stack([crop_of(image, box, side) for box in part]))
            for index, logits in enumerate(self(crops)[0]):
                paste(logits, part[index], result[start + index])
        return result


def frame_of(box: Sequence[float] | Float[np.ndarray, " 4"]) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 of the frame of a box in pixels: the box with `MARGIN` of its sides around it, at least 2 pixels."""
    x0, y0, x1, y1 = (float(value) for value in box)
    across, down = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    across, down = max(across, 1 - (x1 - x0) / 2), max(down, 1 - (y1 - y0) / 2)
    return x0 - across, y0 - down, x1 + across, y1 + down


def crop_of(
    image: UInt8[np.ndarray, "H W *C"],
    box: Sequence[float] | Float[np.ndarray, " 4"],
    side: int = CROP,
    fill: int = 128,
) -> UInt8[np.ndarray, "S S *C"]:
    """The frame of a box at side x side pixels, antialiased; what lies outside of the picture is `fill`.

    The centre of the first pixel lies on the frame's left edge, that of the last one on its right edge.
    """
    x0, y0, x1, y1 = frame_of(box)
    across, down = (x1 - x0) / (side - 1) / 2, (y1 - y0) / (side - 1) / 2
    x0, y0, x1, y1 = x0 - across, y0 - down, x1 + across, y1 + down
    # A filter that averages reads this much around the frame.
    left, top = int(np.floor(x0)) - 1, int(np.floor(y0)) - 1
    right, bottom = int(np.ceil(x1)) + 1, int(np.ceil(y1)) + 1
    height, width = image.shape[:2]
    part = image[max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)]
    padded = np.full((bottom - top, right - left, *image.shape[2:]), fill, dtype=np.uint8)
    row, column = max(-top, 0), max(-left, 0)
    padded[row : row + part.shape[0], column : column + part.shape[1]] = part
    where = (x0 - left, y0 - top, x1 - left, y1 - top)
    return np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.BILINEAR, box=where))


def paste(logits: Float[Tensor, "S S"], box: Float[np.ndarray, " 4"], into: Float[np.ndarray, "H W"]) -> None:
    """Write the logits of a box's frame where they lie in a picture; pixels outside of the frame stay."""
    x0, y0, x1, y1 = frame_of(box)
    height, width = into.shape
    columns = np.arange(max(0, int(np.ceil(x0 - 0.5))), min(width, int(np.floor(x1 - 0.5)) + 1))
    rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.floor(y1 - 0.5)) + 1))
    if not len(rows) or not len(columns):
        return
    across = torch.from_numpy(((columns + 0.5 - x0) / (x1 - x0) * 2 - 1).astype(np.float32))
    down = torch.from_numpy(((rows + 0.5 - y0) / (y1 - y0) * 2 - 1).astype(np.float32))
    grid = torch.stack([across.expand(len(rows), -1), down[:, None].expand(-1, len(columns))], dim=-1)
    values = F.grid_sample(logits[None, None].float(), grid[None], padding_mode="border", align_corners=True)
    into[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = values[0, 0].numpy()


def mask_loss(
    full: Float[Tensor, "N S S"], rough: Float[Tensor, "N s s"], targets: UInt8[Tensor, "N S S"]
) -> Float[Tensor, ""]:
    """Cross-entropy and Dice (Milletari et al., 2016) of every pixel, and half of the same at every fourth pixel.

    `targets` are shares of coverage, 0 to 255.
    """
    wanted = targets.float() / 255
    total = full.new_zeros(())
    for logits, weight in ((full, 1.0), (rough, 0.5)):
        aim = wanted if logits.shape == wanted.shape else wanted[:, ::4, ::4]
        chance = logits.sigmoid()
        shared = (chance * aim).sum(dim=(1, 2))
        dice = 1 - (2 * shared + 1) / ((chance.square() + aim.square()).sum(dim=(1, 2)) + 1)
        total = total + weight * (F.binary_cross_entropy_with_logits(logits, aim) + dice.mean())
    return total
