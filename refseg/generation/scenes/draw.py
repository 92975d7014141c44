"""From a layout to an image and exact masks.

Every object becomes a patch with coverage (alpha). Patches are laid over the backdrop from far to near; a pixel
belongs to the nearest object that covers at least half of it, which makes the visible masks exact and disjoint. An
object left with too few visible pixels is taken out of the scene before anything is painted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refseg.generation.scenes import figures, objects
from refseg.generation.scenes.backdrop import draw_backdrop
from refseg.generation.scenes.pen import Colour, Pen
from refseg.generation.scenes.world import CATEGORIES, Layout, Placed
from refseg.palette import PAINTS

MIN_VISIBLE = 0.62  # of the object's own pixels
MIN_PIXELS = 0.0016  # of the image's pixels: 164 at 320 x 320
_CREAM: Colour = (244, 240, 228)
_INKY: Colour = (70, 72, 84)

# How light falls (flat, round, upright cylinder) and the period of a pattern in object heights.
_LOOKS: dict[str, tuple[str, float]] = {
    "ball": ("round", 0.3),
    "teddy bear": ("flat", 0.2),
    "vase": ("cylinder", 0.16),
    "cup": ("cylinder", 0.26),
    "bottle": ("cylinder", 0.2),
    "lamp": ("cylinder", 0.2),
    "box": ("flat", 0.24),
    "sofa": ("flat", 0.16),
    "umbrella": ("flat", 0.17),
    "suitcase": ("flat", 0.17),
}


@dataclass
class Patch:
    """One object's pixels inside the image: colours times coverage, coverage, and the top left corner."""

    colour: NDArray[np.float32]
    cover: NDArray[np.float32]
    left: int
    top: int
    whole: int  # pixels covered by at least half, were nothing in front of it

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def render(item: Placed, size: int, light: float) -> Patch | None:
    """The patch of an object in an image of size x size; None when nothing of it falls inside."""
    height = max(4, round(item.height * size))
    aspect = item.width / item.height
    scale = 4 if height < 48 else 3 if height < 120 else 2
    body: Colour = PAINTS[item.colour]
    pen = Pen(height, aspect, scale, item.flip, body, _INKY if item.colour == "white" else _CREAM)
    if "person" in CATEGORIES[item.category].families:
        figures.person(pen, item.category, item.traits, item.style)
        look, period = "cylinder", (0.075 if "standing" in item.traits else 0.12)
    else:
        name = item.category.replace(" ", "_")
        getattr(figures if hasattr(figures, name) else objects, name)(pen, item.style)
        look, period = _LOOKS.get(item.category, ("flat", 0.16))
    colour, cover = pen.finish(item.pattern, period)
    colour *= _shade(cover.shape, look, light)[:, :, None]
    left = round(item.x * size - pen.width / 2) - 1
    top = round(item.foot * size) - height - 1
    rows = slice(max(0, -top), min(cover.shape[0], size - top))
    columns = slice(max(0, -left), min(cover.shape[1], size - left))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    whole = int((cover >= 0.5).sum())
    return Patch(colour[rows, columns], cover[rows, columns], max(0, left), max(0, top), whole)


def _shade(shape: tuple[int, ...], look: str, light: float) -> NDArray[np.float32]:
    """How bright each pixel of a patch is; `light` -1 from the left to 1 from the right, always a little from above."""
    down = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    if look == "round":
        far = (across - 0.45 * light) ** 2 + (down + 0.45) ** 2
        return np.clip(1.2 - 0.28 * far + 0.55 * np.exp(-far * 14), 0.4, 1.7)
    if look == "cylinder":
        return 1.06 - 0.16 * (across - 0.4 * light) ** 2 - 0.05 * down
    return 1.0 + 0.07 * light * across - 0.06 * down


def visible_masks(patches: list[Patch], size: int) -> tuple[NDArray[np.bool_], list[int]]:
    """(K, size, size) masks of what is seen of each patch, farthest first, and which of them are seen too little."""
    owner = np.full((size, size), -1, dtype=np.int16)
    for index, patch in enumerate(patches):
        owner[patch.window][patch.cover >= 0.5] = index
    masks = owner[None] == np.arange(len(patches), dtype=np.int16)[:, None, None]
    seen = masks.sum((1, 2))
    poor = [
        index
        for index, patch in enumerate(patches)
        if seen[index] < MIN_PIXELS * size * size or seen[index] < MIN_VISIBLE * patch.whole
    ]
    return masks, poor


def paint(layout: Layout, patches: list[Patch], size: int, rng: random.Random) -> NDArray[np.uint8]:
    """The finished image, (size, size, 3) RGB."""
    picture = draw_backdrop(layout, size, rng)
    softness = rng.uniform(0.28, 0.46)
    for item, patch in zip(layout.objects, patches, strict=True):
        _shadow(picture, item, size, layout.light, softness)
        view = picture[patch.window]
        view *= 1 - patch.cover[:, :, None]
        view += patch.colour
    across = np.linspace(-1, 1, size, dtype=np.float32)
    falloff = 1.03 + 0.06 * layout.light * across[None, :] - 0.07 * (across[None, :] ** 2 + across[:, None] ** 2) / 2
    warmth = rng.uniform(-0.03, 0.03)
    picture *= falloff[:, :, None]
    picture *= np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32) * rng.uniform(0.9, 1.06)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _shadow(picture: NDArray[np.float32], item: Placed, size: int, light: float, strength: float) -> None:
    """A soft dark ellipse on the ground, away from the light."""
    half_width = item.width * size * 0.62
    half_height = max(1.5, min(half_width * 0.28, item.height * size * 0.3))
    middle = item.x * size - light * half_width * 0.35
    foot = item.foot * size - half_height * 0.25
    top, bottom = max(0, int(foot - 1.3 * half_height)), min(size, int(foot + 1.3 * half_height) + 1)
    left, right = max(0, int(middle - 1.3 * half_width)), min(size, int(middle + 1.3 * half_width) + 1)
    if top >= bottom or left >= right:
        return
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - foot) / half_height)[:, None]
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - middle) / half_width)[None, :]
    far = down**2 + across**2
    picture[top:bottom, left:right] *= (1 - strength * np.clip(1.15 - far * 0.75, 0, 1))[:, :, None]
