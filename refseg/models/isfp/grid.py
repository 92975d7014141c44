"""Targets on ISFP's grid: which cells are positive, and whose mask each of them stands for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refseg.types import Targets

__all__ = ["GridTargets", "gravity_centres", "grid_targets"]


class GridTargets(NamedTuple):
    """The K targets of B expressions, and the grid's S x S cells."""

    masks: Bool[Tensor, "K H W"]
    owner: Int[Tensor, "B S S"]
    """Which thing's mask a cell stands for; -1 on negative cells."""
    centres: Bool[Tensor, "B S S"]
    """True on the cell of each thing's centre of gravity."""

    @property
    def positive(self) -> Bool[Tensor, "B S S"]:
        """G_pos: the cells of the centres and their neighbours."""
        return self.owner >= 0


def grid_targets(targets: Targets, grid: int, separate: bool) -> GridTargets:
    """The cell of each thing's centre of gravity and its eight neighbours are positive (thesis, section 3.2.5).

    An expression's mask is one thing. With `separate` each of `targets.instances` is, where the batch has them; a cell
    beside several centres stands for the nearest. Things without pixels have no cell.
    """
    masks, expressions = targets.masks, torch.arange(len(targets.masks), device=targets.masks.device)
    if separate and targets.instances is not None:
        counts = torch.tensor([len(each) for each in targets.instances], device=masks.device)
        masks, expressions = torch.cat(list(targets.instances)), expressions.repeat_interleave(counts)
    count = len(targets.masks)
    centres, some = gravity_centres(masks)
    scale = grid / torch.tensor(targets.masks.shape[1:], dtype=torch.float32, device=masks.device)
    places = centres * scale
    cells = places.floor().long().clamp(0, grid - 1)
    lines = torch.arange(grid, device=masks.device)
    off_rows, off_columns = ((lines[None] - cells[:, axis : axis + 1]).abs() for axis in (0, 1))
    near = torch.maximum(off_rows[:, :, None], off_columns[:, None]) <= 1
    down, right = ((lines[None] + 0.5 - places[:, axis : axis + 1]) ** 2 for axis in (0, 1))
    distance = (down[:, :, None] + right[:, None]).masked_fill(~(near & some[:, None, None]), torch.inf)
    owner = torch.full((count, grid, grid), -1, device=masks.device)
    least = distance.new_full((count, grid, grid), torch.inf)
    is_centre = torch.zeros(count, grid, grid, dtype=torch.bool, device=masks.device)
    for index, expression in enumerate(expressions.tolist()):
        nearer = distance[index] < least[expression]
        owner[expression][nearer] = index
        least[expression] = torch.minimum(least[expression], distance[index])
        is_centre[expression, cells[index, 0], cells[index, 1]] |= some[index]
    return GridTargets(masks, owner, is_centre)


def gravity_centres(masks: Bool[Tensor, "K H W"]) -> tuple[Float[Tensor, "K 2"], Bool[Tensor, " K"]]:
    """The mean row and column of each mask's pixels, in pixels from the upper left corner (the first pixel's centre is
    at .5), and which masks have any pixel; the centre of an empty one is (0, 0)."""
    areas = masks.sum(dim=(1, 2))
    means = []
    for axis in (1, 2):
        counts = masks.sum(dim=3 - axis)
        positions = torch.arange(masks.shape[axis], device=masks.device) + 0.5
        means.append((counts * positions).sum(dim=1) / areas.clamp(min=1))
    return torch.stack(means, dim=1).float(), areas > 0
