"""Masks of tracks that do not flicker: a moving average over the frames of a clip, moved with the track's box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MaskMemory", "moved"]


class MaskMemory:
    """Mask logits of tracks, averaged over frames with exponential forgetting.

    The mean of the frames before is moved with the track's box, so that it lies where the thing is now; `keep` is its
    share. What flickers at the edge from frame to frame goes, as does what one crop takes for the thing and others do
    not. `limit`: logits of a frame are cut to this size, so that one very certain frame does not outweigh many.
    """

    def __init__(self, keep: float, limit: float = 4.0) -> None:
        self.keep, self.limit = keep, limit
        self._before: dict[int, tuple[Float[Tensor, " 4"], Float[Tensor, "H W"]]] = {}

    def update(
        self, tracks: Sequence[int], boxes: Float[Tensor, "k 4"], logits: Float[Tensor, "k H W"]
    ) -> Float[Tensor, "k H W"]:
        """The mean logits of this frame's tracks, whose `boxes` are x0 y0 x1 y1, 0 to 1 of the map; others are
        forgotten."""
        if self.keep == 0:
            return logits
        result = logits.clamp(-self.limit, self.limit)
        for row, number in enumerate(tracks):
            if number in self._before:
                box, mean = self._before[number]
                result[row] = (1 - self.keep) * result[row] + self.keep * moved(mean, box, boxes[row])
        self._before = {number: (boxes[row], result[row].clone()) for row, number in enumerate(tracks)}
        return result

    def cut(self) -> None:
        """Another scene."""
        self._before = {}


def moved(logits: Float[Tensor, "H W"], start: Float[Tensor, " 4"], end: Float[Tensor, " 4"]) -> Float[Tensor, "H W"]:
    """The map with what lies in the box `start` moved and scaled into the box `end`."""
    height, width = logits.shape
    columns, rows = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    scale = (start[2:] - start[:2]) / (end[2:] - end[:2]).clamp(min=1e-4)
    x = ((columns - end[0]) * scale[0] + start[0]) * 2 - 1
    y = ((rows - end[1]) * scale[1] + start[1]) * 2 - 1
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
    values = torch.nn.functional.grid_sample(
        logits[None, None], grid[None].to(logits), padding_mode="border", align_corners=False
    )
    return values[0, 0]
