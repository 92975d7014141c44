"""Deformable attention over several maps (Zhu et al., ICLR 2021, equation 3) in plain PyTorch, without a custom kernel.

Every query looks at a few points of every map. The points and their weights are linear in the query; the value at a
point is interpolated between its four pixels, and is zero outside the map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError

__all__ = ["DeformableAttention", "own_places", "sample_maps"]

Sizes = tuple[tuple[int, int], ...]


@lru_cache(maxsize=32)
def own_places(sizes: Sizes, heads: int, points: int, device: torch.device) -> Float[Tensor, "T heads L P 2"]:
    """Where the centre of every pixel of every map (T in all, map after map) falls on each of the L maps.

    (x, y) in pixels of that map, whole numbers at the centres of its pixels. Repeated for every head and point: an
    addition of two tensors of one shape is much faster than one that repeats two numbers.
    """
    # Cached tensors may meet training later, so they must not become inference tensors.
    with torch.inference_mode(False):
        relative = []
        for height, width in sizes:
            rows, columns = (torch.arange(length) + 0.5 for length in (height, width))
            y, x = torch.meshgrid(rows / height, columns / width, indexing="ij")
            relative.append(torch.stack([x, y], dim=-1).flatten(0, 1))
        spans = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float32)
        centres = torch.cat(relative)[:, None] * spans - 0.5
        return centres[:, None, :, None].expand(-1, heads, -1, points, -1).contiguous().to(device)


def sample_maps(
    values: Float[Tensor, "B T heads c"],
    sizes: Sizes,
    points: Float[Tensor, "B Q heads L P 2"],
    weights: Float[Tensor, "B Q heads L P"],
) -> Float[Tensor, "B Q heads*c"]:
    """Sum of `weights` times the values at `points`, bilinear, zero outside the maps.

    `values` holds the L maps' pixels in reading order, map after map (T = sum of height * width over `sizes`). `points`
    are (x, y) in pixels of their map, whole numbers at the centres of pixels.
    """
    if values.device.type == "cpu":
        return _sample_rows(values, sizes, points, weights)
    return _sample_grid(values, sizes, points, weights)


def _sample_grid(values: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """By `grid_sample`, one map at a time: the better way on an accelerator."""
    batch, _, heads, width = values.shape
    queries = points.shape[1]
    total: Tensor | None = None
    for level, (part, (rows, columns)) in enumerate(
        zip(values.split([h * w for h, w in sizes], 1), sizes, strict=True)
    ):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        span = points.new_tensor([columns, rows])
        grid = (points[:, :, :, level] * 2 + 1) / span - 1
        sampled = F.grid_sample(maps.to(grid.dtype), grid.transpose(1, 2).flatten(0, 1), align_corners=False)
        scale = weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, 1, queries, -1)
        summed = (sampled * scale).sum(-1)
        total = summed if total is None else total + summed
    assert total is not None
    return total.view(batch, heads * width, queries).transpose(1, 2)


@dataclass(frozen=True)
class RowTable:
    """How pixels are numbered in a table of rows: one row a pixel and head, every map with a border of zeros around it.

    A pixel (x, y) of the map has row `first + y * pitch + x * heads`; the constants are repeated for every head and
    point. `limits` are a map's (width, height), `rows` the table's length for one picture.
    """

    limits: Float[Tensor, "heads L P 2"]
    pitch: Float[Tensor, "heads L P"]
    first: Float[Tensor, "heads L P"]
    rows: int


@lru_cache(maxsize=32)
def row_table(sizes: Sizes, heads: int, points: int) -> RowTable:
    """The numbering for maps of these sizes."""
    with torch.inference_mode(False):
        per_level, begin = [], 0
        for height, width in sizes:
            pitch = width + 2
            per_level.append((width, height, pitch * heads, (begin + pitch + 1) * heads))
            begin += (height + 2) * pitch
        # The last pixel's right and lower neighbours are read with weight 0: there must be rows for them.
        begin += max(width for _, width in sizes) + 3
        constants = torch.tensor(per_level, dtype=torch.float32)[None, :, None].expand(heads, -1, points, -1)
        head = torch.arange(heads)[:, None, None]
        return RowTable(
            limits=constants[..., :2].contiguous(),
            pitch=constants[..., 2].contiguous(),
            first=(constants[..., 3] + head).contiguous(),
            rows=begin * heads,
        )


def _sample_rows(values: Tensor, sizes: Sizes, points: Tensor, weights: Tensor) -> Tensor:
    """As a weighted sum of table rows (`embedding_bag`): on a CPU about ten times faster than `grid_sample`.

    A point that is held to the border of its map lies outside, where all pixels are zero, so that its four pixels need
    no test of their own.
    """
    batch, _, heads, width = values.shape
    queries, levels, number = points.shape[1], points.shape[3], points.shape[4]
    numbering = row_table(sizes, heads, number)
    table = weights.new_zeros(batch, numbering.rows // heads, heads * width)
    begin = 0
    for part, (height, columns) in zip(values.split([h * w for h, w in sizes], 1), sizes, strict=True):
        end = begin + (height + 2) * (columns + 2)
        bordered = table[:, begin:end].view(batch, height + 2, columns + 2, heads * width)
        bordered[:, 1:-1, 1:-1] = part.reshape(batch, height, columns, heads * width)
        begin = end

    held = torch.minimum(points.clamp(min=-1), numbering.limits)
    corner = held.floor()
    right, down = (held - corner).unbind(-1)
    left, top = corner.unbind(-1)
    # Whole numbers are exact in float32 up to 2^24, far more than a picture has rows; pictures are counted as integers.
    first = torch.addcmul(torch.add(numbering.first, left, alpha=heads), top, numbering.pitch).int()
    if batch > 1:
        first = first + torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1) * numbering.rows
    below = first + numbering.pitch.int()
    pixels = torch.stack([first, first + heads, below, below + heads], dim=3)
    lower = weights * down
    upper = weights - lower
    lower_right, upper_right = lower * right, upper * right
    shares = torch.stack([upper - upper_right, upper_right, lower - lower_right, lower_right], dim=3)
    bags = (batch * queries * heads, 4 * levels * number)
    rows = table.view(-1, width)
    summed = F.embedding_bag(pixels.view(bags), rows, mode="sum", per_sample_weights=shares.view(bags))
    return summed.view(batch, queries, heads * width)


class DeformableAttention(nn.Module):
    """Deformable attention with `heads` heads and `points` points a head and map."""

    def __init__(self, width: int = 256, heads: int = 8, levels: int = 3, points: int = 4) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"heads={heads} does not divide width={width}")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        """At first each head looks in a direction of its own, one pixel further with every point, evenly weighted."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack([angles.cos(), angles.sin()], dim=-1)
        ring = ring / ring.abs().max(dim=-1, keepdim=True).values
        steps = torch.arange(1, self.points + 1)
        offsets = ring.view(self.heads, 1, 1, 2) * steps.view(1, 1, -1, 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, queries: Float[Tensor, "B T C"], values: Float[Tensor, "B T C"], sizes: Sizes
    ) -> Float[Tensor, "B T C"]:
        """Every pixel of all maps asks; `queries` and `values` hold the pixels in reading order, map after map."""
        batch, number, width = queries.shape
        maps = self.value_proj(values).view(batch, number, self.heads, width // self.heads)
        # One product for both; sampling wants more digits than low precision has.
        both = (self.sampling_offsets, self.attention_weights)
        weight, bias = torch.cat([layer.weight for layer in both]), torch.cat([layer.bias for layer in both])
        offsets, scores = F.linear(queries, weight, bias).float().split([layer.out_features for layer in both], dim=-1)
        offsets = offsets.reshape(batch, number, self.heads, self.levels, self.points, 2)
        points = offsets + own_places(sizes, self.heads, self.points, queries.device)
        # A softmax over a few neighbouring numbers is slow on a CPU, one over a few rows is not.
        rows = scores.transpose(1, 2).reshape(batch, self.heads, -1, number)
        weights = rows.softmax(dim=2).permute(0, 3, 1, 2).contiguous().view(points.shape[:-1])
        return self.output_proj(sample_maps(maps, sizes, points, weights).to(queries.dtype))
