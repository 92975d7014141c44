"""Where a picture lies on a network's input: the configuration that decides it, the placing, and the record that leads
back. Free of torch: whatever handles pictures, masks or boxes may import it.

Four ways, by `InputConfig.resize`:
- warp: stretched to size x size, the aspect ratio lost (ReLA, LAVT, the Swin systems);
- letterbox: the longer side becomes `size`, the picture stands in the middle of a padded square (LTS, ISFP, VLT, M3Att
  on DarkNet; ReSTR);
- longest: the longer side becomes `size`, padding at the right and the bottom up to a multiple of `divisor` (RefTR);
- shrink: as longest, but a picture that is smaller keeps its size (networks of transformers, which place it again).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image

from refseg.config import Config, PositiveFloat, PositiveInt
from refseg.errors import ConfigError, RefsegError

__all__ = ["Geometry", "InputConfig", "geometry_of", "placed_pixels"]

Colour = Annotated[float, Ge(0), Le(255)]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class InputConfig(Config):
    """How a picture becomes a network's input: placed by `resize`, then (value - mean) / std per channel."""

    size: Annotated[int, Ge(8), Le(10_000)] = 480
    """Side of the square (warp, letterbox) or length of the longer side (longest; shrink: at most), in pixels."""
    resize: Literal["warp", "letterbox", "longest", "shrink"] = "warp"
    """warp: stretched to size x size. letterbox: in the middle of a padded square. longest: padded at the right and the
    bottom up to a multiple of `divisor`. shrink: as longest, but pictures that are smaller keep their size."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How colours are resized (PIL's filters, which average when they make smaller)."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Of the channels R, G, B, in units of 0 to 255."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (58.395, 57.12, 57.375)
    padding: tuple[Colour, Colour, Colour] | None = None
    """R, G, B of padding before normalisation, 0 to 255; None pads with the mean: zeros after it."""
    divisor: PositiveInt = 32
    """Height and width of the input are multiples of this (warp, letterbox: `size` must be one)."""
    rasterise: Literal["model", "original", "touched"] = "model"
    """Where polygons of training targets are filled. model: at the input's size (ReLA's published mapper). original: at
    the picture's size, then resized to the nearest pixel. touched: resized linearly, every pixel with a share taken,
    which widens masks a little (ReSTR's published loader)."""

    def check(self) -> None:
        """Raises `ConfigError` where `size` is no multiple of `divisor` though it must be."""
        if self.resize in ("warp", "letterbox") and self.size % self.divisor:
            near = max(1, round(self.size / self.divisor)) * self.divisor
            raise ConfigError(f"size: {self.size} is not a multiple of divisor {self.divisor}; {near} is")


@dataclass(frozen=True)
class Geometry:
    """How a picture was placed on the network's input: scaled by `scale`, moved by `offset`; sizes are (height, width).

    Coordinates are continuous with (0, 0) at the outer corner of the first pixel: the centre of the pixel in column c
    lies at c + 0.5. So x_model = x_original * scale[1] + offset[1], and the scaled picture covers
    `offset` to `offset + original_size * scale` of `model_size`; the rest is padding.
    """

    original_size: tuple[int, int]
    model_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.original_size) < 1 or min(self.model_size) < 1:
            raise RefsegError(f"a picture needs at least one pixel: {self.original_size} -> {self.model_size}")
        if min(self.scale) <= 0:
            raise RefsegError(f"the scale must be positive, not {self.scale}")

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (..., 2) as (x, y), or boxes (..., 4) as xyxy, from the original picture to the network's input."""
        scale, offset = self._factors(points)
        return np.asarray(points, dtype=np.float64) * scale + offset

    def to_original(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `to_model`."""
        scale, offset = self._factors(points)
        return (np.asarray(points, dtype=np.float64) - offset) / scale

    def content(self) -> tuple[int, int, int, int]:
        """The rows and columns (top, left, bottom, right) of the network's input that hold the picture."""
        top, left = (round(value) for value in self.offset)
        height = max(1, round(self.original_size[0] * self.scale[0]))
        width = max(1, round(self.original_size[1] * self.scale[1]))
        return top, left, min(top + height, self.model_size[0]), min(left + width, self.model_size[1])

    def _factors(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        size = np.shape(points)[-1] if np.ndim(points) else 0
        if size not in (2, 4):
            raise RefsegError(f"points end in 2 numbers (x, y) and boxes in 4 (xyxy), not in {size}")
        repeat = size // 2
        return np.tile(self.scale[::-1], repeat).astype(float), np.tile(self.offset[::-1], repeat).astype(float)


def geometry_of(size: tuple[int, int], config: InputConfig) -> Geometry:
    """Where a picture of (height, width) lies on the input that `config` describes."""
    height, width = size
    if config.resize == "warp":
        inner, outer, offset = (config.size, config.size), (config.size, config.size), (0.0, 0.0)
    else:
        scale = config.size / max(height, width)
        if config.resize == "shrink":
            scale = min(1.0, scale)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        if config.resize == "letterbox":
            outer = (config.size, config.size)
            offset = (float((outer[0] - inner[0]) // 2), float((outer[1] - inner[1]) // 2))
        else:
            outer, offset = (_up(inner[0], config.divisor), _up(inner[1], config.divisor)), (0.0, 0.0)
    return Geometry((height, width), outer, (inner[0] / height, inner[1] / width), offset)


def placed_pixels(
    picture: Image.Image, config: InputConfig
) -> tuple[Float[np.ndarray, "3 H W"], Bool[np.ndarray, "H W"], Geometry]:
    """A picture of mode RGB as normalised input in 32 bits, the mask of its real pixels (not padding), and the geometry
    that leads back."""
    geometry = geometry_of((picture.height, picture.width), config)
    top, left, bottom, right = geometry.content()
    if (picture.height, picture.width) != (bottom - top, right - left):
        picture = picture.resize((right - left, bottom - top), _RESAMPLING[config.interpolation])
    mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (config.mean, config.std))
    pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels -= mean
    pixels /= std
    if pixels.shape[1:] == geometry.model_size:
        return pixels, np.ones(geometry.model_size, dtype=bool), geometry
    colour = np.array(config.mean if config.padding is None else config.padding, dtype=np.float32).reshape(3, 1, 1)
    placed = np.empty((3, *geometry.model_size), dtype=np.float32)
    placed[:] = (colour - mean) / std
    placed[:, top:bottom, left:right] = pixels
    real = np.zeros(geometry.model_size, dtype=bool)
    real[top:bottom, left:right] = True
    return placed, real, geometry


def _up(value: int, divisor: int) -> int:
    return -(-value // divisor) * divisor
