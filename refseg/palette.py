"""Colours by name: the eleven basic colour terms, typical RGB values of each, and CIE L*a*b*. Free of torch.

The terms are those of Berlin and Kay, "Basic Color Terms", 1969. RGB values are sRGB, 0 to 255.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

__all__ = ["COLORS", "COLOR_WORDS", "EXAMPLES", "PAINTS", "PROTOTYPES", "rgb_to_lab"]

RGB = tuple[int, int, int]
Array = TypeVar("Array", bound=Any)

PROTOTYPES: dict[str, tuple[RGB, ...]] = {
    # A white thing in the shade is as light as a gray one in the sun: those lightnesses belong to both.
    "black": ((8, 8, 8), (24, 24, 26), (38, 38, 41), (58, 58, 60)),
    "white": ((255, 255, 255), (238, 238, 238), (224, 226, 228), (204, 205, 207), (182, 183, 185)),
    "gray": ((75, 75, 77), (100, 100, 101), (128, 128, 128), (150, 151, 153), (180, 181, 183)),
    "red": ((205, 25, 35), (160, 20, 28), (225, 55, 50), (115, 14, 22)),
    "orange": ((245, 130, 30), (228, 108, 22), (250, 155, 70)),
    "yellow": ((250, 215, 50), (242, 228, 110), (215, 180, 40), (250, 240, 40)),
    "green": ((40, 150, 60), (20, 90, 40), (120, 180, 80), (62, 84, 40), (140, 205, 140), (30, 60, 34), (20, 150, 110)),
    "blue": (
        (30, 80, 200),
        (20, 36, 100),
        (100, 150, 220),
        (160, 200, 238),
        (55, 90, 145),
        (30, 140, 190),
        (28, 44, 74),
    ),
    "purple": ((120, 50, 160), (80, 36, 110), (165, 120, 205)),
    "pink": ((245, 140, 180), (230, 85, 145), (245, 185, 205)),
    "brown": ((120, 75, 40), (82, 50, 30), (150, 102, 62), (58, 36, 24), (176, 134, 92)),
}
"""Of each name the shades that it covers, to name pixels of annotated objects by the nearest: navy and sky are blue."""

COLORS = tuple(PROTOTYPES)
COLOR_WORDS = (*COLORS[:3], "grey", *COLORS[3:])
"""The names with their other spelling."""

EXAMPLES: dict[str, tuple[RGB, ...]] = {
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
"""Typical surfaces in light and in shade, for the colour maps that the photograph model's weights were trained with."""

PAINTS: dict[str, RGB] = {
    "red": (208, 36, 40),
    "orange": (240, 132, 24),
    "yellow": (246, 212, 52),
    "green": (48, 150, 66),
    "blue": (38, 92, 204),
    "purple": (128, 58, 168),
    "pink": (246, 140, 182),
    "brown": (122, 76, 42),
    "black": (44, 44, 50),
    "white": (240, 240, 236),
}
"""What things of drawn scenes are painted with; none is gray."""

SRGB_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
"""Linear sRGB to CIE XYZ as IEC 61966-2-1 prints it."""
SRGB_TO_XYZ_FINE = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""The same from the primaries, with three digits more: what the photograph model's weights were trained with."""


def rgb_to_lab(rgb: Array, xp: Any = np, matrix: tuple[tuple[float, ...], ...] = SRGB_TO_XYZ) -> Array:
    """sRGB (..., 3) of 0 to 1, floats, as CIE L*a*b* (..., 3) under daylight D65 (CIE 15).

    `xp` is the module that the array is of, numpy or torch; the result has its type, precision and device.
    """
    linear = xp.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    options = {} if xp is np else {"device": rgb.device}
    relative = linear @ xp.asarray(matrix, dtype=rgb.dtype, **options).T
    relative = relative / xp.asarray((0.95047, 1.0, 1.08883), dtype=rgb.dtype, **options)
    bent = xp.where(relative > 216 / 24389, relative.clip(min=1e-6) ** (1 / 3), (24389 / 27 * relative + 16) / 116)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)  # type: ignore[no-any-return]
