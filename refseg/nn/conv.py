"""A convolution with its normalisation, and the normalisations that encoders of pictures use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.nn.parts import Part, conv_enlarged, conv_parts

__all__ = [
    "ConvNorm",
    "FoldedConv",
    "FrozenBatchNorm",
    "LargeConv",
    "NormKind",
    "build_norm",
    "channels_last",
    "group_norm",
    "masks_of",
    "pointwise",
]


NormKind = Literal["frozen", "batch", "group"]


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics and scale never change: four buffers and no parameter.

    For encoders that start from ImageNet weights and train with few pictures a batch.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Scale and shift every channel."""
        scale, shift = scale_and_shift(self)
        return maps * scale[:, None, None] + shift[:, None, None]


def scale_and_shift(norm: FrozenBatchNorm | nn.BatchNorm2d) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """The affine map that a batch normalisation with fixed statistics applies to each channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def pointwise(conv: nn.Conv2d, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
    """A 1x1 convolution, as a matrix product where that is faster: when a pixel's channels lie together.

    With a stride it is also safer: the convolution's own weight gradient overwrites foreign memory in PyTorch 2.13 on
    CPUs with AVX-512 for some widths that 16 does not divide (8 to 16 channels, 3 pictures, 2 threads).
    """
    if maps.device.type != "cpu" or not maps.is_contiguous(memory_format=torch.channels_last):
        return conv(maps)
    kept = maps.permute(0, 2, 3, 1)[:, :: conv.stride[0], :: conv.stride[1]]
    return F.linear(kept, conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def channels_last(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """The map with a pixel's channels together in memory on a CPU, where convolutions are faster so; else as it is."""
    return maps.contiguous(memory_format=torch.channels_last) if maps.device.type == "cpu" else maps


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group normalisation; raises `ConfigError` when `groups` does not divide `channels`."""
    if groups < 1 or channels % groups:
        raise ConfigError(f"groups={groups} does not divide {channels} channels; choose a divisor")
    return nn.GroupNorm(groups, channels)


def build_norm(kind: NormKind, channels: int, groups: int, eps: float = 1e-5) -> nn.Module:
    """The normalisation layer of that kind; `groups` matters for "group" alone, `eps` for the two others."""
    if kind == "frozen":
        return FrozenBatchNorm(channels, eps)
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps)
    return group_norm(channels, groups)


class LargeConv(torch.autograd.Function):
    """A 3x3 convolution that keeps the size, without bias, of maps whose pixels' channels lie together.

    Its weights' gradient is nine matrix products: oneDNN's own takes two to four times as long on CPUs with AVX2, from
    some 60 x 60 places on (256 channels, 120 x 120: 2.7 s against .8).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, maps: Float[Tensor, "B C h w"], weight: Float[Tensor, "D C 3 3"]
    ) -> Float[Tensor, "B D h w"]:
        """The convolved map."""
        ctx.save_for_backward(maps, weight)
        return F.conv2d(maps, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, "B D h w"]) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of map and weights."""
        maps, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            ones, wanted = [1, 1], [True, False, False]
            of_maps = torch.ops.aten.convolution_backward(
                gradient, maps, weight, None, ones, ones, ones, False, [0, 0], 1, wanted
            )[0]
        if ctx.needs_input_grad[1]:
            height, width = maps.shape[2:]
            padded = F.pad(maps, (1, 1, 1, 1)).permute(0, 2, 3, 1)
            pixels = gradient.permute(0, 2, 3, 1).flatten(0, 2).T
            taps = [
                pixels @ padded[:, row : row + height, column : column + width].flatten(0, 2)
                for row in range(3)
                for column in range(3)
            ]
            of_weight = torch.stack(taps, dim=-1).unflatten(-1, (3, 3))
        return of_maps, of_weight


LARGE = 60 * 60
"""Places of a map from which `LargeConv` is used."""


def _learns_large(conv: nn.Conv2d, maps: Tensor) -> bool:
    kept = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    return (
        kept
        and conv.groups == 1
        and conv.bias is None
        and torch.is_grad_enabled()
        and conv.weight.requires_grad
        and maps.device.type == "cpu"
        and maps.dtype == conv.weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and maps.shape[2] * maps.shape[3] >= LARGE
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


class ConvNorm(nn.Module):
    """Convolution, normalisation and (when `relu`) rectification; padding keeps the size before the stride.

    `slope` is that of the rectification below 0; `eps` is what batch normalisation adds to variances.

    A normalisation with fixed statistics (frozen, or batch in evaluation) is folded into the convolution's weights,
    which saves one pass over the map.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        norm: NormKind,
        stride: int = 1,
        relu: bool = True,
        groups: int = 32,
        padding: int | None = None,
        dilation: int = 1,
        slope: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads = (dilation * (sides[0] // 2), dilation * (sides[1] // 2)) if padding is None else (padding, padding)
        self.conv = nn.Conv2d(inputs, outputs, sides, stride=stride, padding=pads, dilation=dilation, bias=False)
        self.norm = build_norm(norm, outputs, groups, eps)
        self.relu = relu
        self.slope = slope
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Float[Tensor, "B C h w"] | Sequence[Part]) -> Float[Tensor, "B D u v"]:
        """The map at 1/stride of the size, rounded up for odd kernels. Parts of a map are convolved one by one, where
        the convolution keeps the size."""
        norm = self.norm
        if not isinstance(maps, Tensor):
            return self._activated(self._of_parts(maps))
        if isinstance(norm, FrozenBatchNorm) or (isinstance(norm, nn.BatchNorm2d) and not self.training):
            scale, shift = scale_and_shift(norm)
            weight = self.conv.weight * scale[:, None, None, None].to(self.conv.weight.dtype)
            conv = self.conv
            result = F.conv2d(maps, weight, shift.to(weight.dtype), conv.stride, conv.padding, conv.dilation)
        elif self.conv.kernel_size == (1, 1):
            result = norm(pointwise(self.conv, maps))
        elif _learns_large(self.conv, maps):
            result = norm(LargeConv.apply(maps, self.conv.weight))
        else:
            result = norm(self.conv(maps))
        return self._activated(result)

    def enlarged(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The same of the map enlarged by 2 (the nearest place); of a 3x3 convolution that keeps the size."""
        return self._activated(self.norm(conv_enlarged(self.conv, maps)))

    def _of_parts(self, parts: Sequence[Part]) -> Tensor:
        conv, norm = self.conv, self.norm
        assert conv.stride == (1, 1)
        assert isinstance(conv.padding, tuple)
        if isinstance(norm, FrozenBatchNorm) or (isinstance(norm, nn.BatchNorm2d) and not self.training):
            scale, shift = scale_and_shift(norm)
            weight = conv.weight * scale[:, None, None, None].to(conv.weight.dtype)
            return conv_parts(parts, weight, shift.to(weight.dtype), conv.padding, conv.dilation)
        return norm(conv_parts(parts, conv.weight, None, conv.padding, conv.dilation))

    def _activated(self, maps: Float[Tensor, "B D u v"]) -> Float[Tensor, "B D u v"]:
        if not self.relu:
            return maps
        return F.leaky_relu(maps, self.slope, inplace=True) if self.slope else F.relu(maps, inplace=True)


LEAK = 0.1
"""Slope of the rectification below 0 in every convolution of the family."""

KERAS_EPS = 1e-3
"""What Keras adds to a variance before the root; published weights of the family were trained with it."""


def conv_leaky(inputs: int, outputs: int, kernel: int, stride: int = 1, eps: float = KERAS_EPS) -> ConvNorm:
    """The block of the DarkNet family: convolution without bias, batch normalisation, leaky ReLU of slope .1."""
    return ConvNorm(inputs, outputs, kernel, "batch", stride=stride, slope=LEAK, eps=eps)


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


class FoldedConv(nn.Module):
    """A convolution with bias whose padding keeps the size before the stride, and its activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
        *,
        activation: Literal["leaky", "relu6"],
    ) -> None:
        """`act` False leaves the activation out; the first weights are for networks of that activation all the same."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups)
        self.activation = activation if act else None
        if activation == "relu6":
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_normal_(self.conv.weight, a=LEAK, nonlinearity="leaky_relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map at 1/stride of the size, rounded up."""
        maps = pointwise(self.conv, maps) if self.conv.kernel_size == (1, 1) else self.conv(maps)
        if self.activation == "relu6":
            return F.relu6(maps, inplace=True)
        return F.leaky_relu(maps, LEAK, inplace=True) if self.activation == "leaky" else maps
