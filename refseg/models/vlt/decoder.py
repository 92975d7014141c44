"""VLT's mask decoder (thesis, section 4.2.4): mask features F_m from responses, and convolutions up to the mask."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.vlt.config import ConvolutionsConfig, MaskDecoderConfig
from refseg.models.vlt.fusion import ConvSettings

__all__ = ["ConvolutionStack", "MaskDecoder", "MaskFeatures"]


class MaskFeatures(nn.Module):
    """F_m: one map a query."""

    def __init__(self, config: MaskDecoderConfig, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.dense = nn.Linear(width, grid * grid) if config.source == "dense" else None

    def forward(
        self, responses: Float[Tensor, "B Q C"], memory: Float[Tensor, "B T C"], size: tuple[int, int]
    ) -> Float[Tensor, "B Q h w"]:
        """Equation 4.7, F_ve F_b^T; or rectified linear maps of the responses alone, resized to the memory's grid."""
        if self.dense is None:
            return (responses @ memory.transpose(1, 2)).unflatten(2, size)
        maps = F.relu(self.dense(responses)).unflatten(2, (self.grid, self.grid))
        if size != (self.grid, self.grid):
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return maps


class MaskDecoder(nn.Module):
    """Convolutions and enlargements by 2 (the nearest place), to one logit a cell; `ups` are the enlargements."""

    def __init__(self, config: MaskDecoderConfig, inputs: int, ups: int, settings: ConvSettings) -> None:
        super().__init__()
        self.layout, self.ups = config.layout, ups
        width = config.channels
        count = 3 + (ups if config.layout == "code" else 0)
        self.convs = nn.ModuleList(settings.conv(inputs if index == 0 else width, width, 3) for index in range(count))
        last = 3 if config.layout == "code" else 1
        self.output = nn.Conv2d(width, 1, last, padding=last // 2)

    def forward(self, maps: Float[Tensor, "B Q h w"]) -> Float[Tensor, "B u v"]:
        """Logits at 2^ups times the size."""
        first_up = 3 if self.layout == "code" else 3 - self.ups
        for index, conv in enumerate(self.convs):
            if self.layout == "code" and index >= first_up:
                maps = F.interpolate(maps, scale_factor=2, mode="nearest")
            maps = conv(maps)
            if self.layout == "text" and index >= first_up:
                maps = F.interpolate(maps, scale_factor=2, mode="nearest")
        return self.output(maps)[:, 0]


class ConvolutionStack(nn.Module):
    """3x3 convolutions in the place of all that the transformer is (table 4.1)."""

    def __init__(self, config: ConvolutionsConfig, width: int, settings: ConvSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(settings.conv(width if index == 0 else config.hidden, config.hidden, 3) for index in range(config.depth))
        )

    def forward(self, fused: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Features of the mask."""
        return self.layers(fused)
