"""What colour every place of a picture has, by name: fixed, so that "red" need not be learnt from pictures first.

    RGB -> mean of 4 x 4 pixels -> CIE L*a*b* -> distance to some examples of each name -> a share of each name

The examples are typical surfaces in light and in shade. A share is soft: a place between orange and brown is some of
both.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["COLOURS", "colour_maps"]

_EXAMPLES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((18, 18, 18), (45, 45, 50)),
    "white": ((248, 248, 248), (222, 222, 220)),
    "gray": ((128, 128, 128), (92, 92, 94), (172, 172, 172)),
    "red": ((205, 30, 35), (150, 20, 28), (230, 70, 62)),
    "orange": ((236, 132, 32), (218, 108, 40)),
    "yellow": ((242, 212, 50), (222, 192, 84)),
    "green": ((48, 142, 62), (30, 92, 46), (122, 172, 82), (88, 110, 52)),
    "blue": ((40, 82, 192), (30, 50, 110), (104, 152, 222), (70, 110, 160)),
    "purple": ((122, 52, 152), (92, 60, 124)),
    "pink": ((242, 152, 182), (226, 110, 152)),
    "brown": ((122, 76, 46), (90, 56, 36), (162, 112, 76)),
}
COLOURS = tuple(_EXAMPLES)
"""Names of the maps, in their order."""
_STRIDE = 4
_SOFTNESS = 12.0  # in units of L*a*b*, where 2 is the least difference that people see


def colour_maps(images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N K h w"]:
    """The share of each name at stride 8 of pictures in RGB, 0 to 255; the shares of a place add up to 1."""
    with torch.autocast(images.device.type, enabled=False):
        small = F.avg_pool2d(images.float().clamp(0, 255), _STRIDE, ceil_mode=True, count_include_pad=False)
        places = _lab(small.permute(0, 2, 3, 1) / 255)
        examples, owner = _examples(images.device)
        distances = torch.cdist(places.flatten(0, 2)[None], examples[None])[0]
        nearest = distances.new_full((len(distances), len(COLOURS)), 1e4)
        nearest = nearest.scatter_reduce(1, owner.expand(len(distances), -1), distances, "amin")
        shares = (-0.5 * (nearest / _SOFTNESS).square()).softmax(dim=1)
        maps = shares.view(*places.shape[:3], -1).permute(0, 3, 1, 2)
        return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


def _lab(rgb: Float[Tensor, "*S 3"]) -> Float[Tensor, "*S 3"]:
    """sRGB of 0 to 1 in CIE L*a*b* under daylight D65 (IEC 61966-2-1, CIE 15)."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = linear.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    relative = linear @ matrix.T / linear.new_tensor([0.95047, 1.0, 1.08883])
    bent = torch.where(relative > 216 / 24389, relative.clamp(min=1e-6) ** (1 / 3), (24389 / 27 * relative + 16) / 116)
    x, y, z = bent.unbind(dim=-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


@lru_cache(maxsize=8)
def _examples(device: torch.device) -> tuple[Float[Tensor, "E 3"], Tensor]:
    """All examples in L*a*b*, and which name each belongs to."""
    with torch.inference_mode(False):
        rows = [(number, rgb) for number, name in enumerate(COLOURS) for rgb in _EXAMPLES[name]]
        values = _lab(torch.tensor([rgb for _, rgb in rows], dtype=torch.float32) / 255)
        return values.to(device), torch.tensor([[number for number, _ in rows]], device=device)
