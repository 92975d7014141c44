"""Maps whose channels are put together of several maps, of which some hold less than they seem to: an image's own map,
which is repeated for each of its expressions, and a coarse map, of which every place is repeated.

    conv([a ; b]) = conv_a(a) + conv_b(b)

A convolution computes each part where it is small and repeats the result, which is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Part", "as_parts", "conv_enlarged", "conv_parts", "joined", "mean_of", "rows_of"]


class Part(NamedTuple):
    """Some of the channels of a map of B rows."""

    maps: Float[Tensor, "N C h w"]
    image_index: Int[Tensor, " B"] | None = None
    """The row of `maps` that is meant by each row of the whole; None: row for row."""
    times: int = 1
    """Each place of `maps` stands for a square of so many places a side."""

    @classmethod
    def of(cls, maps: Float[Tensor, "N C h w"], size: Sequence[int], image_index: Tensor | None = None) -> Part:
        """`maps` enlarged to `size` by the nearest place; it stays small where each place is repeated alike."""
        times = size[0] // maps.shape[2]
        if (maps.shape[2] * times, maps.shape[3] * times) == tuple(size):
            return cls(maps, image_index, times)
        return cls(F.interpolate(maps, size=tuple(size), mode="nearest"), image_index)

    def whole(self) -> Float[Tensor, "B C H W"]:
        """The part as it stands in the map."""
        return _enlarged(rows_of(self.maps, self.image_index), self.times)


def as_parts(maps: Float[Tensor, "B C h w"] | Sequence[Part]) -> list[Part]:
    """A whole map as its one part; parts as they are."""
    return [Part(maps)] if isinstance(maps, Tensor) else list(maps)


def joined(parts: Sequence[Part]) -> Float[Tensor, "B C H W"]:
    """The map itself."""
    return torch.cat([part.whole() for part in parts], dim=1)


def mean_of(parts: Sequence[Part]) -> Float[Tensor, "B C 1 1"]:
    """The mean over all places."""
    means = (rows_of(part.maps.mean(dim=(2, 3), keepdim=True), part.image_index) for part in parts)
    return torch.cat(list(means), dim=1)


def conv_parts(
    parts: Sequence[Part],
    weight: Float[Tensor, "D C k l"],
    bias: Float[Tensor, " D"] | None = None,
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Float[Tensor, "B D H W"]:
    """The convolution, with stride 1, of the map of `parts`; `padding` keeps its size. Parts of 1 x 1 places count
    everywhere."""
    total: Tensor | None = None
    start, kernel = 0, weight.shape[2:]
    for part in parts:
        stop = start + part.maps.shape[1]
        maps, times = part.maps, part.times
        if times > 1 and kernel != (1, 1) and any(step % times for step in dilation):
            # The kernel would see the borders between repeated places.
            maps, times = _enlarged(maps, times), 1
        own = weight[:, start:stop]
        last_bias = bias if start == 0 else None
        if kernel == (1, 1):
            result = _linear(maps, own, last_bias)
        else:
            finer = [step // times for step in dilation]
            result = F.conv2d(maps, own, last_bias, padding=[pad // times for pad in padding], dilation=finer)
        result = _enlarged(rows_of(result, part.image_index), times)
        total = result if total is None else total + result
        start = stop
    assert total is not None
    assert start == weight.shape[1]
    return total


def conv_enlarged(conv: nn.Conv2d, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
    """A 3x3 convolution of the map enlarged by 2 (the nearest place), as the transposed convolution that it is: four
    products a place instead of nine."""
    if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.stride != (1, 1) or conv.dilation != (1, 1):
        raise ValueError("a 3x3 convolution that keeps the size is wanted")
    # Enlarging is a transposed convolution with a square of four ones, and two in a row are one with their product.
    wide = F.pad(conv.weight, (1, 1, 1, 1))
    rows = wide[:, :, 1:] + wide[:, :, :-1]
    kernel = (rows[..., 1:] + rows[..., :-1]).flip(2, 3).transpose(0, 1)
    return F.conv_transpose2d(maps, kernel, conv.bias, stride=2, padding=1)


def rows_of(maps: Float[Tensor, "N C h w"], image_index: Int[Tensor, " B"] | None) -> Float[Tensor, "B C h w"]:
    """The rows with these numbers, in the memory order of `maps`; all of them without numbers."""
    if image_index is None:
        return maps
    if maps.is_contiguous() or not maps.is_contiguous(memory_format=torch.channels_last):
        return maps.index_select(0, image_index)
    return maps.permute(0, 2, 3, 1).index_select(0, image_index).permute(0, 3, 1, 2)


def _enlarged(maps: Float[Tensor, "B C h w"], times: int) -> Float[Tensor, "B C H W"]:
    return maps if times == 1 else F.interpolate(maps, scale_factor=times, mode="nearest")


def _linear(
    maps: Float[Tensor, "B C h w"], weight: Float[Tensor, "D C 1 1"], bias: Float[Tensor, " D"] | None
) -> Float[Tensor, "B D h w"]:
    """See `refseg.nn.conv.pointwise`."""
    if maps.device.type != "cpu" or not maps.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(maps, weight, bias)
    return F.linear(maps.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
