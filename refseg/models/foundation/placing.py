"""What all networks of this folder share: pictures out of a batch, masks and boxes back at the picture's size.

Coordinates of boxes and outlines are 0 to 1 of the picture, and mask maps cover the whole picture, whatever the
network's own input was; the adapters turn theirs into these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from refseg.nn.boxes import OUTSIDE

__all__ = ["Warp", "box_logits", "enlarge", "outline_logits", "pad", "pictures_of"]


class Warp:
    """Pictures stretched to a square and normalised, as the processors of SAM 2 and SAM 3 do, which need torchvision.

    PIL's bilinear filter averages where it makes smaller, as theirs does; values differ by the rounding to 8 bits.
    """

    def __init__(self, side: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std` of the channels R, G, B in units of 0 to 1."""
        self.side, self.mean, self.std = side, tuple(mean), tuple(std)

    def __call__(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], return_tensors: str = "pt") -> dict[str, Tensor]:
        """`pixel_values` (N, 3, side, side)."""
        size = (self.side, self.side)
        resized = [np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images]
        values = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (self.mean, self.std))
        return {"pixel_values": (values - mean) / std}

    @classmethod
    def of(cls, settings: Mapping[str, object], side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Warp:
        """With the colours of a preprocessor_config.json, `mean` and `std` where it names none."""
        own_mean, own_std = settings.get("image_mean"), settings.get("image_std")
        return cls(
            side, own_mean if isinstance(own_mean, list) else mean, own_std if isinstance(own_std, list) else std
        )


def pictures_of(
    images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The pictures of a batch that was placed by `own_pixels`, without what pads them at the right and the bottom."""
    pictures = []
    for image, mask in zip(images, pixel_mask, strict=True):
        height, width = int(mask.any(1).sum()), int(mask.any(0).sum())
        values = image[:, :height, :width].float().round().clamp(0, 255)
        pictures.append(np.ascontiguousarray(values.byte().permute(1, 2, 0).cpu().numpy()))
    return pictures


def enlarge(
    mask_logits: Float[Tensor, "K h w"],
    size: tuple[int, int],
    of: Literal["logits", "probabilities"] = "logits",
) -> Float[Tensor, "K H W"]:
    """Mask maps at a picture's size (height, width) as logits, bilinear.

    `of` says what is interpolated: SAM 2's published code takes logits, transformers' SAM 3 takes probabilities.
    """
    values = mask_logits.float()
    if not len(values):
        return values.new_zeros(0, *size)
    if of == "probabilities":
        values = values.sigmoid()
    values = F.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    return values.logit(eps=1e-6) if of == "probabilities" else values


def pad(mask_logits: Float[Tensor, "K h w"], size: tuple[int, int]) -> Float[Tensor, "K H W"]:
    """Maps in the top left corner of an input of `size`, with `OUTSIDE` around."""
    height, width = mask_logits.shape[1:]
    return F.pad(mask_logits, (0, size[1] - width, 0, size[0] - height), value=OUTSIDE)


def box_logits(boxes: Float[Tensor, "K 4"], size: tuple[int, int]) -> Float[Tensor, "K H W"]:
    """Boxes x0 y0 x1 y1, 0 to 1, filled: what a network that knows boxes alone can say of pixels."""
    height, width = size
    rows = (torch.arange(height, device=boxes.device) + 0.5) / height
    columns = (torch.arange(width, device=boxes.device) + 0.5) / width
    x0, y0, x1, y1 = boxes.float().unbind(1)
    inside = ((rows >= y0[:, None]) & (rows < y1[:, None]))[:, :, None]
    inside = inside & ((columns >= x0[:, None]) & (columns < x1[:, None]))[:, None, :]
    return torch.where(inside, -OUTSIDE, OUTSIDE)


def outline_logits(outlines: Sequence[Float[np.ndarray, "_ 2"]], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Outlines of one thing, points (x, y) 0 to 1, filled; the parts are united. Fewer than 3 points fill nothing."""
    height, width = size
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        if len(outline) >= 3:
            # PIL's points are indices of pixels: the centre of pixel c lies at c + 0.5 of the picture.
            points = outline * np.array([width, height]) - 0.5
            draw.polygon([(float(x), float(y)) for x, y in points], fill=1)
    return torch.where(torch.from_numpy(np.array(canvas)), -OUTSIDE, OUTSIDE)
