"""What regions say: each a target's probability, a mask filter and a share in the verdict (ReLA, section 4.1).

The mask is the sum of the regions' masks, each weighted by its region's value: M = sum_n x_n <f_n, F_m> (equation 1).
The sum moves inside the product, M = <sum_n x_n f_n, F_m>, so that one inner product a pixel is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["RegionOutput", "RegionPrediction", "masks_of", "region_masks"]


@dataclass(frozen=True)
class RegionPrediction:
    """What the R regions of B sentences say together; positive logits mean foreground, target, no target."""

    mask_logits: Float[Tensor, "B h w"]
    minimap_logits: Float[Tensor, "B R"]
    no_target_logits: Float[Tensor, " B"]


@dataclass(frozen=True)
class RegionOutput:
    """The last prediction, those of earlier layers where they are supervised, and what drawing wants.

    `attention` is region over words where the decoder has such a map. `mask_pairs` holds the background and
    the foreground logit where the decoder predicts both.
    """

    last: RegionPrediction
    filters: Float[Tensor, "B R C"]
    earlier: list[RegionPrediction] = field(default_factory=list)
    attention: Float[Tensor, "B R L"] | None = None
    mask_pairs: Float[Tensor, "B 2 h w"] | None = None


def masks_of(
    kernels: Float[Tensor, "B K C"], mask_features: Float[Tensor, "N C h w"], picture: Int[Tensor, " B"] | None
) -> Float[Tensor, "B K h w"]:
    """Inner products of each sentence's K kernels with the pixels of its picture, without a copy of the picture a
    sentence. `picture[b]` is the picture of sentence b; None means one to one."""
    pictures, _, height, width = mask_features.shape
    pixels = mask_features.flatten(2)
    if picture is None:
        return (kernels @ pixels).unflatten(2, (height, width))
    sentences, each, channels = kernels.shape
    if pictures == 1:
        return (kernels.flatten(0, 1) @ pixels[0]).view(sentences, each, height, width)
    order = torch.argsort(picture, stable=True)
    counts = torch.bincount(picture, minlength=pictures)
    # The place of each sentence among those of its picture.
    ranks = torch.arange(sentences, device=picture.device) - (counts.cumsum(0) - counts)[picture[order]]
    slot = torch.empty_like(order)
    slot[order] = ranks
    most = int(counts.max())
    grouped = kernels.new_zeros(pictures, most, each, channels)
    grouped[picture, slot] = kernels
    masks = (grouped.flatten(1, 2) @ pixels).view(pictures, most, each, height, width)
    return masks[picture, slot]


def region_masks(
    filters: Float[Tensor, "B R C"], mask_features: Float[Tensor, "N C h w"], picture: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B R h w"]:
    """Every region's own mask logits M_r^n = <f_n, F_m>: for drawing, since the summed mask needs none of them."""
    return masks_of(filters, mask_features, picture)
