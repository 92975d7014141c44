"""Convolutions whose normalisation is folded into weight and bias, as in networks that were made ready for use."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.nn.conv import pointwise

__all__ = ["FoldedConv"]

SLOPE = 0.1
"""Of the leaky rectification below 0."""


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
            nn.init.kaiming_normal_(self.conv.weight, a=SLOPE, nonlinearity="leaky_relu")
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D u v"]:
        """The map at 1/stride of the size, rounded up."""
        maps = pointwise(self.conv, maps) if self.conv.kernel_size == (1, 1) else self.conv(maps)
        if self.activation == "relu6":
            return F.relu6(maps, inplace=True)
        return F.leaky_relu(maps, SLOPE, inplace=True) if self.activation == "leaky" else maps
