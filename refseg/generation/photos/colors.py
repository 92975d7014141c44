"""Colours by name: which of eleven basic words people would use for an object's pixels, and which they might.

A pixel belongs to the word whose nearest prototype is closest in CIE L*a*b* (D65, lightness weighted down, because
shade and light change it most); where two words are about as close, the pixel counts for neither, and for both as a
possibility.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from refseg.palette import COLORS, PROTOTYPES, rgb_to_lab

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
_COLORLESS = 9.0  # chroma that a black and white picture, or a toned one, stays below


@dataclass(frozen=True)
class ColorReading:
    """The colour of an object: its `name`, "" where no one word fits, None where it cannot be told (too few pixels).

    `others` are all words that someone might use besides: what is neither `name` nor among them is certainly wrong.
    """

    name: str | None
    others: tuple[str, ...] = ()


@cache
def _table() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each of 32 x 32 x 32 colours: which names it clearly has, which it might have; both (32768, names)."""
    steps = (np.arange(32) * 8 + 4).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = np.array([_LIGHTNESS_WEIGHT, 1.0, 1.0])
    points = rgb_to_lab(grid / 255) * weight
    distances = np.empty((len(grid), len(COLORS)))
    for column, name in enumerate(COLORS):
        prototypes = rgb_to_lab(np.array(PROTOTYPES[name]) / 255) * weight
        distances[:, column] = np.linalg.norm(points[:, None] - prototypes[None], axis=-1).min(axis=1)
    best = distances.min(axis=1, keepdims=True)
    possible = (distances <= best + _CLEAR) & (best <= _FAR)
    return possible & (possible.sum(axis=1, keepdims=True) == 1), possible


def shares(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of (N, 3) sRGB pixels that clearly have, and that might have, each of `COLORS`."""
    bins = (pixels >> 3).astype(np.int64)
    sure, possible = _table()
    codes = bins[:, 0] * 1024 + bins[:, 1] * 32 + bins[:, 2]
    return sure[codes].mean(axis=0), possible[codes].mean(axis=0)


def name_color(pixels: NDArray[np.uint8], strictness: float = 1.0) -> ColorReading:
    """The colour of an object from (N, 3) of its sRGB pixels; `strictness` above 1 asks for larger majorities."""
    if len(pixels) < _FEWEST_PIXELS:
        return ColorReading(None)
    sure, possible = shares(pixels)
    order = np.argsort(-sure)
    first, second = int(order[0]), int(order[1])
    if COLORS[first] == "brown":
        strictness *= _BROWN
    named = (
        sure[first] >= min(0.95, _SURE_SHARE * strictness)
        and possible[first] >= min(0.97, _POSSIBLE_SHARE * strictness)
        and sure[second] <= _RIVAL_SHARE / strictness
        and sure.sum() - sure[first] <= _RIVALS_SHARE
    )
    name = COLORS[first] if named else ""
    others = tuple(other for other, share in zip(COLORS, possible, strict=True) if share >= _TRACE)
    return ColorReading(name, tuple(other for other in others if other != name))


def is_colorless(image: NDArray[np.uint8]) -> bool:
    """Whether a (H, W, 3) picture is black and white or toned, so that its objects' colours cannot be told."""
    step = max(1, min(image.shape[:2]) // 64)
    values = rgb_to_lab(image[::step, ::step] / 255)
    chroma = np.hypot(values[..., 1] - np.median(values[..., 1]), values[..., 2] - np.median(values[..., 2]))
    return bool(np.percentile(chroma, 95) < _COLORLESS)
