"""Changes of a picture that its masks and boxes go along with, and changes of its colours. numpy and PIL.

Every change of places has the (height, width) that the picture has afterwards, `size`; `picture` (H, W, 3) fills what
was outside with the mean colour, `mask` (H, W) with False; `box` is the box around where a box's inside is afterwards,
cut at the picture's border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Affine", "Box", "Crop", "Flip", "Move", "scale_colours"]

Box: TypeAlias = tuple[float, float, float, float]
"""xyxy in pixels."""


@dataclass(frozen=True)
class Flip:
    """The mirror image of a picture of `size`."""

    size: tuple[int, int]

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels[:, ::-1]

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return mask[:, ::-1]

    def box(self, box: Box) -> Box:
        return self.size[1] - box[2], box[1], self.size[1] - box[0], box[3]


@dataclass(frozen=True)
class Crop:
    """The window `frame` (left, top, right, bottom) of a picture of `before`; it may reach beyond the picture."""

    before: tuple[int, int]
    frame: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        left, top, right, bottom = self.frame
        return bottom - top, right - left

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        result = np.empty((*self.size, 3), dtype=np.uint8)
        result[:] = [int(value) for value in pixels.mean(axis=(0, 1))]
        inside, outside = self._parts()
        result[inside] = pixels[outside]
        return result

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        result = np.zeros(self.size, dtype=bool)
        inside, outside = self._parts()
        result[inside] = mask[outside]
        return result

    def box(self, box: Box) -> Box:
        left, top, _, _ = self.frame
        return _cut_at(self.size, box[0] - left, box[1] - top, box[2] - left, box[3] - top)

    def _parts(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """What of the window lies in the picture: as rows and columns of the window, and of the picture."""
        left, top, right, bottom = self.frame
        height, width = self.before
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        window = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        return window, (slice(y0, y1), slice(x0, x1))


@dataclass(frozen=True)
class Affine:
    """Points (x, y) of a picture of `size` go to `matrix` (2, 3) times (x, y, 1); the size stays."""

    size: tuple[int, int]
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]

    @classmethod
    def about_the_middle(
        cls, size: tuple[int, int], turn: float, scale: float, slant: tuple[float, float], shift: tuple[float, float]
    ) -> Affine:
        """Slanted by angles along x and y, turned and scaled about the picture's middle, then shifted by pixels; angles
        are in radians."""
        turned = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        linear = turned @ np.array([[1.0, math.tan(slant[0])], [math.tan(slant[1]), 1.0]])
        middle = np.array([size[1], size[0]]) / 2
        offset = middle + np.array(shift) - linear @ middle
        rows = [(float(row[0]), float(row[1]), float(end)) for row, end in zip(linear, offset, strict=True)]
        return cls(size, (rows[0], rows[1]))

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        filling = tuple(int(value) for value in pixels.mean(axis=(0, 1)))
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(self._moved(image, Image.Resampling.BILINEAR, filling))

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        image = Image.fromarray(mask.astype(np.uint8))
        return np.asarray(self._moved(image, Image.Resampling.NEAREST, 0)) > 0

    def box(self, box: Box) -> Box:
        return _cut_at(self.size, *self._around(box))

    def keeps(self, box: Box) -> bool:
        """Whether the middle of a box stays in the picture, and half of what it becomes, too."""
        whole = self._around(box)
        x, y = (whole[0] + whole[2]) / 2, (whole[1] + whole[3]) / 2
        inside = 0 <= x < self.size[1] and 0 <= y < self.size[0]
        return inside and 2 * _area(_cut_at(self.size, *whole)) >= _area(whole)

    def _around(self, box: Box) -> Box:
        corners = np.array([(x, y, 1.0) for x in box[::2] for y in box[1::2]]) @ np.array(self.matrix).T
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, top, right, bottom

    def _moved(self, image: Image.Image, resampling: Image.Resampling, filling: int | tuple[int, ...]) -> Image.Image:
        linear, offset = np.array(self.matrix)[:, :2], np.array(self.matrix)[:, 2]
        back = np.linalg.inv(linear)
        start = -back @ offset
        data = (*back[0].tolist(), float(start[0]), *back[1].tolist(), float(start[1]))
        # PIL maps the centres of pixels, at .5.
        return image.transform(image.size, Image.Transform.AFFINE, data, resampling, fillcolor=filling)


Move: TypeAlias = Flip | Crop | Affine


def scale_colours(pixels: NDArray[np.uint8], saturation: float, value: float) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with saturation and value (of hue, saturation, value) times these factors, each at most full.

    Value times a is every channel times a, as long as the largest stays below 256; saturation times b moves the other
    channels away from the largest by b, as long as none is below 0.
    """
    colours = pixels.astype(np.float32)
    largest = colours.max(axis=2, keepdims=True)
    spread = largest - colours.min(axis=2, keepdims=True)
    away = np.minimum(saturation, largest / np.maximum(spread, 1e-6))
    colours = largest - (largest - colours) * away
    colours = colours * np.minimum(value, 255 / np.maximum(largest, 1e-6))
    return colours.round().clip(0, 255).astype(np.uint8)


def _cut_at(size: tuple[int, int], left: float, top: float, right: float, bottom: float) -> Box:
    height, width = size
    return (
        min(max(left, 0.0), float(width)),
        min(max(top, 0.0), float(height)),
        min(max(right, 0.0), float(width)),
        min(max(bottom, 0.0), float(height)),
    )


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
