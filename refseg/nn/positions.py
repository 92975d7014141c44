"""Positions of pixels for transformers in pictures with padding (Carion et al., DETR, ECCV 2020, section A.4)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.errors import ConfigError, RefsegError

__all__ = ["PixelPositions", "PositionKind", "with_coordinates"]

PositionKind = Literal["sine", "learned"]
ROWS = 50
"""Rows and columns of the learnt tables: maps of stride 32 from pictures of up to 1600 pixels."""


class PixelPositions(nn.Module):
    """A vector for each place of a map: half the channels for the row, half for the column.

    sine: sines and cosines of the place, 0 to 2 pi over the real pixels. learned: rows of two tables.
    """

    def __init__(self, width: int, kind: PositionKind = "sine", temperature: float = 10000.0) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"width={width}: positions of rows and columns need a multiple of 4")
        self.per_axis, self.temperature = width // 2, temperature
        self.tables: nn.ModuleList | None = None
        if kind == "learned":
            self.tables = nn.ModuleList(nn.Embedding(ROWS, self.per_axis) for _ in range(2))
            for table in self.tables:
                assert isinstance(table, nn.Embedding)
                nn.init.uniform_(table.weight)

    def forward(self, mask: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C h w"]:
        """`mask` is True on real pixels. Raises `RefsegError` for maps larger than the learnt tables."""
        if self.tables is not None:
            return self._learned(mask)
        places = []
        for axis in (1, 2):
            count = mask.cumsum(dim=axis, dtype=torch.float32)
            whole = count.narrow(axis, count.shape[axis] - 1, 1)
            # Half a pixel back: the centres of the pixels.
            places.append((count - 0.5) / (whole + 1e-6) * (2 * math.pi))
        channels = torch.arange(self.per_axis, device=mask.device)
        powers = 2 * torch.div(channels, 2, rounding_mode="floor") / self.per_axis
        waves = [place[..., None] / self.temperature**powers for place in places]
        halves = [torch.stack([wave[..., 0::2].sin(), wave[..., 1::2].cos()], dim=-1).flatten(-2) for wave in waves]
        return torch.cat(halves, dim=-1).permute(0, 3, 1, 2)

    def _learned(self, mask: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C h w"]:
        count, height, width = mask.shape
        if max(height, width) > ROWS:
            raise RefsegError(f"a map of {height} x {width} is larger than the {ROWS} learnt positions; use sine")
        assert self.tables is not None
        of_rows, of_columns = (table.get_parameter("weight") for table in self.tables)
        rows = of_rows[:height, None].expand(height, width, self.per_axis)
        columns = of_columns[None, :width].expand(height, width, self.per_axis)
        return torch.cat([rows, columns], dim=-1).permute(2, 0, 1).expand(count, -1, height, width)


def with_coordinates(maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
    """The maps and two more channels: the row and the column of each place's centre, -1 to 1."""
    height, width = maps.shape[2:]
    rows, columns = (
        (torch.arange(side, device=maps.device, dtype=maps.dtype) * 2 + 1) / side - 1 for side in (height, width)
    )
    grid = torch.stack([rows[:, None].expand(height, width), columns[None].expand(height, width)])
    return torch.cat([maps, grid.expand(len(maps), -1, -1, -1)], dim=1)
