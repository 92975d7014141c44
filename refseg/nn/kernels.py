"""Kernels made by language: 1x1 convolutions of an image's features, each expression with its own."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["masks_of"]


def masks_of(
    kernels: Float[Tensor, "B K C"], mask_features: Float[Tensor, "N C h w"], image_index: Int[Tensor, " B"] | None
) -> Float[Tensor, "B K h w"]:
    """Inner products of each expression's K kernels with the pixels of its image, without a copy of the image an
    expression. `image_index[b]` is the image of expression b; None means one to one."""
    images, _, height, width = mask_features.shape
    pixels = mask_features.flatten(2)
    if image_index is None:
        return (kernels @ pixels).unflatten(2, (height, width))
    expressions, each, channels = kernels.shape
    if images == 1:
        return (kernels.flatten(0, 1) @ pixels[0]).view(expressions, each, height, width)
    order = torch.argsort(image_index, stable=True)
    counts = torch.bincount(image_index, minlength=images)
    # The place of each expression among those of its image.
    ranks = torch.arange(expressions, device=image_index.device) - (counts.cumsum(0) - counts)[image_index[order]]
    slot = torch.empty_like(order)
    slot[order] = ranks
    most = int(counts.max())
    grouped = kernels.new_zeros(images, most, each, channels)
    grouped[image_index, slot] = kernels
    masks = (grouped.flatten(1, 2) @ pixels).view(images, most, each, height, width)
    return masks[image_index, slot]
