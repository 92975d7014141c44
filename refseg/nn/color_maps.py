"""Colours by name: shares of the eleven basic colour terms (Berlin and Kay, 1969) in every place of a picture.

A pixel is a soft mixture of the names, by its distance to examples of each in CIE L*a*b*.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from refseg.palette import COLORS, EXAMPLES, SRGB_TO_XYZ_FINE, rgb_to_lab

__all__ = ["color_maps"]

_STRIDE = 4
_SOFTNESS = 12.0  # in units of L*a*b*, where 2 is the least difference that people see


def color_maps(images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N K h w"]:
    """The share of each name at stride 8 of pictures in RGB, 0 to 255; the shares of a place add up to 1."""
    with torch.autocast(images.device.type, enabled=False):
        small = F.avg_pool2d(images.float().clamp(0, 255), _STRIDE, ceil_mode=True, count_include_pad=False)
        places = rgb_to_lab(small.permute(0, 2, 3, 1) / 255, torch, SRGB_TO_XYZ_FINE)
        examples, owner = _examples(images.device)
        distances = torch.cdist(places.flatten(0, 2)[None], examples[None])[0]
        nearest = torch.stack([distances[:, owner[0] == number].amin(dim=1) for number in range(len(COLORS))], dim=1)
        shares = (-0.5 * (nearest / _SOFTNESS).square()).softmax(dim=1)
        maps = shares.view(*places.shape[:3], -1).permute(0, 3, 1, 2)
        return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


@lru_cache(maxsize=8)
def _examples(device: torch.device) -> tuple[Float[Tensor, "E 3"], Tensor]:
    """All examples in L*a*b*, and which name each belongs to."""
    with torch.inference_mode(False):
        rows = [(number, rgb) for number, name in enumerate(COLORS) for rgb in EXAMPLES[name]]
        values = rgb_to_lab(torch.tensor([rgb for _, rgb in rows]) / 255, torch, SRGB_TO_XYZ_FINE)
        return values.to(device), torch.tensor([[number for number, _ in rows]], device=device)
