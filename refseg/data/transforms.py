"""Placing pictures and masks on a network's input. The only file that resizes on the way in; `Geometry` is its record.

Four ways, by `InputConfig.resize`:
- warp: stretched to size x size, the aspect ratio lost (ReLA, LAVT, the Swin systems);
- letterbox: the longer side becomes `size`, the picture stands in the middle of a padded square (LTS, ISFP, VLT, M3Att
  on DarkNet; ReSTR);
- longest: the longer side becomes `size`, padding at the right and the bottom up to a multiple of `divisor` (RefTR);
- shrink: as longest, but a picture that is smaller keeps its size (networks of transformers, which place it again).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refseg.data.images import read_image
from refseg.data.masks import resize_nearest
from refseg.data.sample import Instance, Sample
from refseg.errors import DataError
from refseg.geometry import Geometry, InputConfig

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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


def place_image(
    image: Image.Image | NDArray[Any], config: InputConfig
) -> tuple[Float[Tensor, "3 H W"], Bool[Tensor, "H W"], Geometry]:
    """A picture as normalised input, the mask of its real pixels (not padding), and the geometry that leads back.

    `image` is a PIL picture or an array as `refseg.data.images.read_image` takes them; raises its `ImageError`.
    """
    picture = image if isinstance(image, Image.Image) and image.mode == "RGB" else read_image(image)
    geometry = geometry_of((picture.height, picture.width), config)
    top, left, bottom, right = geometry.content()
    if (picture.height, picture.width) != (bottom - top, right - left):
        picture = picture.resize((right - left, bottom - top), _RESAMPLING[config.interpolation])
    # np.array copies: torch must not write into PIL's memory
    pixels = (
        torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    pixels = pixels.sub_(mean).div_(std)
    height, width = geometry.model_size
    if pixels.shape[1:] == (height, width):
        return pixels, torch.ones(height, width, dtype=torch.bool), geometry
    colour = torch.tensor(config.mean if config.padding is None else config.padding).view(3, 1, 1)
    placed = ((colour - mean) / std).expand(3, height, width).clone()
    placed[:, top:bottom, left:right] = pixels
    real = torch.zeros(height, width, dtype=torch.bool)
    real[top:bottom, left:right] = True
    return placed, real, geometry


def place_mask(mask: NDArray[np.bool_], geometry: Geometry, touched: bool = False) -> Bool[Tensor, "H W"]:
    """A mask (H, W) at the picture's size, placed on the network's input by the nearest pixel, or with `touched` by
    linear interpolation and every pixel that it gives a share; padding is False."""
    if mask.shape != tuple(geometry.original_size):
        raise DataError(f"the mask is {mask.shape}, but the picture is {geometry.original_size}")
    top, left, bottom, right = geometry.content()
    placed = np.zeros(geometry.model_size, dtype=bool)
    if touched:
        shares = Image.fromarray(mask.astype(np.float32)).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR
        )
        placed[top:bottom, left:right] = np.asarray(shares) > 0
    else:
        placed[top:bottom, left:right] = resize_nearest(mask.astype(bool), (bottom - top, right - left))
    return torch.from_numpy(placed)


def place_objects(objects: Sequence[Instance], geometry: Geometry, config: InputConfig) -> Bool[Tensor, "K H W"]:
    """The objects' masks one by one on the network's input; outlines are filled where `config.rasterise` says.

    Raises `DataError` for a damaged encoding.
    """
    size = geometry.original_size
    if not objects:
        return torch.zeros(0, *geometry.model_size, dtype=torch.bool)
    if config.rasterise == "model":
        top, left, bottom, right = geometry.content()
        placed = np.zeros((len(objects), *geometry.model_size), dtype=bool)
        for index, item in enumerate(objects):
            placed[index, top:bottom, left:right] = item.mask(size, (bottom - top, right - left))
        return torch.from_numpy(placed)
    touched = config.rasterise == "touched"
    return torch.stack([place_mask(item.mask(size), geometry, touched) for item in objects])


def place_boxes(sample: Sample, geometry: Geometry) -> Float[Tensor, "K 4"]:
    """The sample's boxes as cxcywh, 0 to 1 of the picture without padding, cut at the picture's border."""
    height, width = geometry.original_size
    boxes = np.clip(sample.boxes() / np.array([width, height, width, height]), 0.0, 1.0)
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.from_numpy(np.concatenate([centre, extent], axis=1).astype(np.float32))


def _up(value: int, divisor: int) -> int:
    return -(-value // divisor) * divisor
