"""Colours by name: which of eleven basic words people would use for an object's pixels, and which they might.

The eleven basic colour terms are those of Berlin and Kay, "Basic Color Terms", 1969. A pixel belongs to the word whose
nearest prototype is closest in CIE L*a*b* (D65, lightness weighted down, because shade and light change it most); where
two words are about as close, the pixel counts for neither and for both as a possibility. No torch in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOUR_NAMES", "ColourReading", "is_colourless", "lab", "name_colour"]

# Prototypes in sRGB: each word covers shades that no single point stands for (navy and sky are both blue).
_PROTOTYPES: dict[str, tuple[tuple[int, int, int], ...]] = {
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
COLOUR_NAMES = tuple(_PROTOTYPES)

_LIGHTNESS_WEIGHT = 0.6
_CLEAR = 6.0  # a second word that far behind (weighted L*a*b* units) is no possibility
_FAR = 32.0  # a pixel farther than this from every prototype has no name
_SURE_SHARE = 0.5  # pixels that must clearly have the name
_POSSIBLE_SHARE = 0.72  # pixels that might have it
_RIVAL_SHARE = 0.15  # pixels that clearly have one other name: beyond this the object is of several colours
_RIVALS_SHARE = 0.25  # the same for all other names together
_BROWN = 1.2  # strictness for the colour that warm light lends to everything
_TRACE = 0.03  # pixels that might have a name, for it to count among the others: a red stripe is seen
_FEWEST_PIXELS = 60
_COLOURLESS = 9.0  # chroma that a black and white picture, or a toned one, stays below


@dataclass(frozen=True)
class ColourReading:
    """The colour of an object: its `name`, "" where no one word fits, None where it cannot be told (too few pixels).

    `others` are all words that someone might use besides: what is neither `name` nor among them is certainly wrong.
    """

    name: str | None
    others: tuple[str, ...] = ()


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB (..., 3), 0 to 255, as CIE L*a*b* under D65."""
    linear = rgb.astype(np.float64) / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    cubic = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    across = 500 * (cubic[..., 0] - cubic[..., 1])
    down = 200 * (cubic[..., 1] - cubic[..., 2])
    return np.stack([116 * cubic[..., 1] - 16, across, down], axis=-1)


@cache
def _table() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each of 32 x 32 x 32 colours: which names it clearly has, which it might have; both (32768, names)."""
    steps = (np.arange(32) * 8 + 4).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = np.array([_LIGHTNESS_WEIGHT, 1.0, 1.0])
    points = lab(grid) * weight
    distances = np.empty((len(grid), len(COLOUR_NAMES)))
    for column, name in enumerate(COLOUR_NAMES):
        prototypes = lab(np.array(_PROTOTYPES[name], dtype=np.uint8)) * weight
        distances[:, column] = np.linalg.norm(points[:, None] - prototypes[None], axis=-1).min(axis=1)
    best = distances.min(axis=1, keepdims=True)
    possible = (distances <= best + _CLEAR) & (best <= _FAR)
    return possible & (possible.sum(axis=1, keepdims=True) == 1), possible


def shares(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of (N, 3) sRGB pixels that clearly have, and that might have, each of `COLOUR_NAMES`."""
    bins = (pixels >> 3).astype(np.int64)
    sure, possible = _table()
    codes = bins[:, 0] * 1024 + bins[:, 1] * 32 + bins[:, 2]
    return sure[codes].mean(axis=0), possible[codes].mean(axis=0)


def name_colour(pixels: NDArray[np.uint8], strictness: float = 1.0) -> ColourReading:
    """The colour of an object from (N, 3) of its sRGB pixels; `strictness` above 1 asks for larger majorities."""
    if len(pixels) < _FEWEST_PIXELS:
        return ColourReading(None)
    sure, possible = shares(pixels)
    order = np.argsort(-sure)
    first, second = int(order[0]), int(order[1])
    if COLOUR_NAMES[first] == "brown":
        strictness *= _BROWN
    named = (
        sure[first] >= min(0.95, _SURE_SHARE * strictness)
        and possible[first] >= min(0.97, _POSSIBLE_SHARE * strictness)
        and sure[second] <= _RIVAL_SHARE / strictness
        and sure.sum() - sure[first] <= _RIVALS_SHARE
    )
    name = COLOUR_NAMES[first] if named else ""
    others = tuple(other for other, share in zip(COLOUR_NAMES, possible, strict=True) if share >= _TRACE)
    return ColourReading(name, tuple(other for other in others if other != name))


def is_colourless(image: NDArray[np.uint8]) -> bool:
    """Whether a (H, W, 3) picture is black and white or toned, so that its objects' colours cannot be told."""
    step = max(1, min(image.shape[:2]) // 64)
    values = lab(image[::step, ::step])
    chroma = np.hypot(values[..., 1] - np.median(values[..., 1]), values[..., 2] - np.median(values[..., 2]))
    return bool(np.percentile(chroma, 95) < _COLOURLESS)
