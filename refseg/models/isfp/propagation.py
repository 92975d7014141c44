"""ISFP's relationship analysis: hidden states that travel through the grid along four paths, there and back.

    sweep down-right           a path is a sweep and then the opposite one, which starts from the first one's states:
    1 2 3                          down-right, up-left      down-left, up-right
    2 3 4   incoming: row,         up-right, down-left      up-left, down-right
    3 4 5   column, diagonal   so that A hears of B what B has heard of A ("comparison", thesis, section 3.2.3)

Cells of one number, an anti-diagonal, do not wait for one another: a sweep of S x S cells takes 2S - 1 matrix products,
one for all cells of a diagonal, all expressions and all four paths.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.isfp.config import PropagationConfig
from refseg.nn.conv import KERAS_EPS, LEAK

__all__ = ["PATHS", "Propagation", "RelationAnalysis", "sweep"]

PATHS: tuple[tuple[int, ...], ...] = ((), (1,), (0,), (0, 1))
"""The axes (0 rows, 1 columns) to be turned so that a path's first sweep goes down-right: of the sweeps down-right,
down-left, up-right and up-left. Each one's opposite is the same table read from its end."""


def sweep(
    grid: Float[Tensor, "P B h w C"],
    own: Float[Tensor, "P C C"],
    incoming: Float[Tensor, "P C C"],
    forget: float,
) -> Float[Tensor, "P B h w C"]:
    """The hidden states of P sweeps, all of them down and to the right (equation 3.2 with leaky rectification).

    A state is `own` times the cell's vector plus `forget` times `incoming` times the sum of the states above, at the
    left, and above at the left, where there are such cells.
    """
    paths, count, height, width, _ = grid.shape
    projected = torch.bmm(grid.flatten(1, 3), own.mT).unflatten(1, (count, height, width))
    diagonals = _diagonals(projected)
    weights = (forget * incoming).mT
    # States of the two diagonals before, by row; a row of zeros in front stands for what lies above the grid.
    before = last = projected.new_zeros(paths, count, height + 1, projected.shape[-1])
    states = []
    for number, here in enumerate(diagonals):
        low, high = max(0, number - width + 1), min(number, height - 1) + 1
        arrived = last[:, :, low:high] + last[:, :, low + 1 : high + 1] + before[:, :, low:high]
        passed = torch.bmm(arrived.flatten(1, 2), weights).unflatten(1, (count, high - low))
        state = F.leaky_relu(here[:, :, low:high] + passed, LEAK)
        before, last = last, F.pad(state, (0, 0, low + 1, height - high))
        states.append(last)
    rows, columns = _places(height, width, grid.device)
    return torch.stack(states, dim=2)[:, :, rows + columns, rows + 1]


def _diagonals(grid: Float[Tensor, "P B h w C"]) -> tuple[Float[Tensor, "P B h C"], ...]:
    """The anti-diagonals, each with the row as its place; places beyond the grid hold anything."""
    height, width = grid.shape[2:4]
    rows = torch.arange(height, device=grid.device)
    numbers = torch.arange(height + width - 1, device=grid.device)[:, None]
    return grid[:, :, rows.expand(len(numbers), height), (numbers - rows).clamp(0, width - 1)].unbind(dim=2)


def _places(height: int, width: int, device: torch.device) -> tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]:
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]
    return rows.expand(height, width), columns.expand(height, width)


class Propagation(nn.Module):
    """The four bidirectional paths; `own` and `incoming` hold W_1 and W_2 of first and second sweep of each path."""

    def __init__(self, config: PropagationConfig, width: int) -> None:
        super().__init__()
        self.forget = config.forget
        sweeps = (1, 1) if config.share else (2, len(PATHS))
        self.own = nn.Parameter(torch.empty(*sweeps, width, width))
        self.incoming = nn.Parameter(torch.empty(*sweeps, width, width))
        for matrices in (self.own, self.incoming):
            for matrix in matrices.data.flatten(0, 1):
                nn.init.xavier_uniform_(matrix)

    def forward(self, features: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C S S"]:
        """The sum of the paths' last states."""
        grid = features.permute(0, 2, 3, 1)
        paths, width = len(PATHS), features.shape[1]
        own, incoming = (matrices.expand(2, paths, width, width) for matrices in (self.own, self.incoming))
        first = sweep(torch.stack([_turned(grid, axes) for axes in PATHS]), own[0], incoming[0], self.forget)
        # Turning both axes leads from a sweep to its opposite.
        last = sweep(first.flip((2, 3)), own[1], incoming[1], self.forget)
        back = [_turned(states, axes) for states, axes in zip(last, reversed(PATHS), strict=True)]
        return torch.stack(back).sum(dim=0).permute(0, 3, 1, 2)


def _turned(grid: Float[Tensor, "B h w C"], axes: tuple[int, ...]) -> Float[Tensor, "B h w C"]:
    return grid.flip([axis + 1 for axis in axes]) if axes else grid


class RelationAnalysis(nn.Module):
    """Instance-specific features become the identifying map: paths and features are summed, then a 1x1 convolution."""

    def __init__(self, config: PropagationConfig, width: int) -> None:
        super().__init__()
        self.propagation = Propagation(config, width) if config.kind == "propagation" else None
        plain = self.propagation is None
        self.norm = None if plain or not config.normalise else nn.BatchNorm2d(width, eps=KERAS_EPS)
        self.output = nn.Conv2d(width, 1, kernel_size=3 if plain else 1, padding=1 if plain else 0)

    def forward(self, features: Float[Tensor, "B C S S"]) -> Float[Tensor, "B S S"]:
        """The logit of each cell."""
        if self.propagation is not None:
            features = features + self.propagation(features).to(features.dtype)
        if self.norm is not None:
            features = self.norm(features)
        return self.output(features)[:, 0]
