"""Connected parts of a mask, found on its runs: numpy only, and never a label image unless somebody wants to paint one.

A run is an unbroken stretch of foreground in one row. Two runs of neighbouring rows belong together when they touch,
by a side or a corner (8-connectivity). Work and memory follow the number of runs, which for masks of objects is a few
per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refseg.errors import RefsegError


@dataclass(frozen=True)
class Components:
    """K connected parts of a (H, W) mask, the largest first.

    `boxes` (K, 4) xyxy in pixels, right and bottom exclusive; `areas` (K,) in pixels. `runs` (R, 3) holds row, first
    column and end column (exclusive) of every run, `part` (R,) the component that each run belongs to.
    """

    size: tuple[int, int]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    runs: NDArray[np.int64]
    part: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.areas)

    def labels(self) -> NDArray[np.int32]:
        """(H, W) picture of component numbers from 0, and -1 on the background."""
        flat = np.full(self.size[0] * self.size[1], -1, dtype=np.int32)
        lengths = self.runs[:, 2] - self.runs[:, 1]
        starts = self.runs[:, 0] * self.size[1] + self.runs[:, 1]
        flat[_ranges(starts, lengths)] = np.repeat(self.part, lengths)
        return flat.reshape(self.size)


def find_components(mask: NDArray[np.bool_]) -> Components:
    """The connected parts of a (H, W) bool mask. Parts of equal area keep the order of their first pixel, row by
    row."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise RefsegError(f"a mask is a (H, W) bool array, not {mask.dtype} of shape {mask.shape}")
    size = (int(mask.shape[0]), int(mask.shape[1]))
    runs = _runs(mask)
    if not len(runs):
        return Components(size, np.zeros((0, 4), np.int64), np.zeros(0, np.int64), runs, np.zeros(0, np.int64))
    roots = _merge(len(runs), *_touching(runs, size[1]))
    _, first, part = np.unique(roots, return_index=True, return_inverse=True)
    count = len(first)
    areas = np.bincount(part, weights=runs[:, 2] - runs[:, 1], minlength=count).astype(np.int64)
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.int64).max, 0
    np.minimum.at(boxes[:, 0], part, runs[:, 1])
    np.minimum.at(boxes[:, 1], part, runs[:, 0])
    np.maximum.at(boxes[:, 2], part, runs[:, 2])
    np.maximum.at(boxes[:, 3], part, runs[:, 0] + 1)
    order = np.lexsort((first, -areas))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return Components(size, boxes[order], areas[order], runs, rank[part])


def target_boxes(
    mask: NDArray[np.bool_], *, relative_speck: float = 0.02, absolute_speck: float = 1e-4
) -> NDArray[np.float64]:
    """Boxes (K, 4) xyxy in pixels of the parts of a mask that count as targets, the largest part first.

    A speck is a part that covers less than `relative_speck` of the largest part or less than `absolute_speck` of the
    picture; specks get no box. The largest part always gets one, so a mask with any pixel has a box.
    """
    found = find_components(mask)
    if not len(found):
        return np.zeros((0, 4))
    limit = max(relative_speck * float(found.areas[0]), absolute_speck * mask.size)
    kept = found.areas >= limit
    kept[0] = True
    return found.boxes[kept].astype(np.float64)


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(R, 3): row, first column, end column (exclusive), row by row from the left."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return np.zeros((0, 3), np.int64)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    width = mask.shape[1]
    # One background column at each side, so that every run has a beginning and an end.
    padded = np.zeros((bottom - top, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask[top:bottom]
    changes = np.diff(padded, axis=1)
    row, start = np.nonzero(changes == 1)
    _, stop = np.nonzero(changes == -1)
    return np.stack([row + top, start, stop], axis=1).astype(np.int64)


def _touching(runs: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of run numbers (upper, lower) of neighbouring rows that touch by a side or a corner."""
    # A key orders the runs of the whole picture; rows are far enough apart that a diagonal never reaches the next one.
    stride = width + 2
    starts = runs[:, 0] * stride + runs[:, 1]
    stops = runs[:, 0] * stride + runs[:, 2]
    # The lower run touches when its end lies right of our start - 1 and its start left of our end + 1.
    low = np.searchsorted(stops, starts + stride, side="left")
    high = np.searchsorted(starts, stops + stride, side="right")
    counts = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(runs)), counts)
    return upper, _ranges(low, counts)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ranges start, start + 1, ... of the given lengths, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def _merge(count: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """For `count` items joined in pairs, the smallest item of each one's group (hooking and pointer jumping)."""
    parent = np.arange(count)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            jumped = parent[parent]
            if np.array_equal(jumped, parent):
                break
            parent = jumped
