"""Pictures, masks and boxes of samples as tensors on a network's input, where `refseg.geometry` says they lie."""

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
from refseg.geometry import Geometry, InputConfig, placed_pixels


def place_image(
    image: Image.Image | NDArray[Any], config: InputConfig
) -> tuple[Float[Tensor, "3 H W"], Bool[Tensor, "H W"], Geometry]:
    """A picture as normalised input, the mask of its real pixels (not padding), and the geometry that leads back: what
    `refseg.geometry.placed_pixels` gives, as tensors.

    `image` is a PIL picture or an array as `refseg.data.images.read_image` takes them; raises its `ImageError`.
    """
    picture = image if isinstance(image, Image.Image) and image.mode == "RGB" else read_image(image)
    pixels, real, geometry = placed_pixels(picture, config)
    return torch.from_numpy(pixels), torch.from_numpy(real), geometry


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
