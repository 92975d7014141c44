"""Which share of an instance's pixels has which colour name.

Names and examples are those of `refseg.models.photo.matching`: a pixel is a soft mixture of the eleven basic colour
terms (Berlin and Kay, 1969), by its distance to examples of each in CIE L*a*b*. Here they stand in a table of
32 x 32 x 32 colours, so that a picture costs one look-up a pixel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from refseg.models.instances.regions import box_grid
from refseg.models.instances.types import COLOURS, MASK_SIZE
from refseg.models.photo.matching import color_maps
from refseg.palette import COLORS as NAMES

__all__ = ["colour_shares", "colour_table"]

_BINS = 32


@cache
def colour_table() -> Float[Tensor, "32768 11"]:
    """The share of each of `COLOURS` in every colour (r // 8) * 1024 + (g // 8) * 32 + b // 8; rows add up to 1."""
    steps = torch.arange(_BINS) * (256 // _BINS) + 128 // _BINS
    colours = torch.cartesian_prod(steps, steps, steps).float()
    # One picture whose 8 x 8 blocks are of one colour each: the maps' means over such a block change nothing.
    blocks = colours.T.reshape(1, 3, _BINS * _BINS, _BINS).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode(False):
        shares = torch.cat([color_maps(part) for part in blocks.split(1024, dim=2)], dim=2)
    columns = [NAMES.index(name) for name in COLOURS]
    return shares[0].flatten(1).T[:, columns].contiguous()


def colour_shares(
    image: UInt8[np.ndarray, "H W 3"], boxes: Float[Tensor, "K 4"], mask_logits: Float[Tensor, "K M M"]
) -> Float[Tensor, "K 11"]:
    """The mean share of each colour over the points of each box's 28 x 28 grid, weighted with the mask's probability.

    `boxes` are 0 to 1 of the picture. Probabilities are squared, so that points that are hardly inside do not count.
    """
    height, width = image.shape[:2]
    grid = box_grid(boxes, MASK_SIZE)
    columns = (grid[..., 0] * width).long().clamp(0, width - 1)
    rows = (grid[..., 1] * height).long().clamp(0, height - 1)
    pixels = image[rows.numpy(), columns.numpy()].astype(np.int64) >> 3
    codes = torch.from_numpy((pixels[..., 0] << 10) | (pixels[..., 1] << 5) | pixels[..., 2])
    shares = colour_table()[codes].view(len(boxes), MASK_SIZE * MASK_SIZE, len(COLOURS))
    weights = mask_logits.float().sigmoid().square().flatten(1) + 1e-6
    return torch.einsum("kpc,kp->kc", shares, weights / weights.sum(dim=1, keepdim=True))
