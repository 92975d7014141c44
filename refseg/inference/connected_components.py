"""Connected parts of a mask, by sides and corners (8-connectivity), and the boxes of those that count as targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refseg.errors import RefsegError

_CORNERS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Components:
    """K connected parts of a (H, W) mask, the largest first.

    `labels` (H, W) holds the number of the part that each pixel belongs to, from 0, and -1 on the background; `boxes`
    (K, 4) xyxy in pixels, right and bottom exclusive; `areas` (K,) in pixels.
    """

    labels: NDArray[np.int32]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.areas)


def find_components(mask: NDArray[np.bool_]) -> Components:
    """The connected parts of a (H, W) bool mask. Parts of equal area keep the order of `scipy.ndimage.label`, row by
    row. Raises `RefsegError` for other arrays."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise RefsegError(f"a mask is a (H, W) bool array, not {mask.dtype} of shape {mask.shape}")
    labels = np.full(mask.shape, -1, dtype=np.int32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Components(labels, np.zeros((0, 4), np.int64), np.zeros(0, np.int64))
    top, left = int(rows[0]), int(columns[0])
    inside = (slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1))
    numbers, count = ndimage.label(mask[inside], _CORNERS)
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    boxes = np.array(
        [(x.start + left, y.start + top, x.stop + left, y.stop + top) for y, x in ndimage.find_objects(numbers)]
    )
    order = np.argsort(-areas, kind="stable")
    rank = np.full(count + 1, -1, dtype=np.int32)
    rank[order + 1] = np.arange(count)
    labels[inside] = rank[numbers]
    return Components(labels, boxes[order], areas[order])


def target_boxes(
    mask: NDArray[np.bool_], *, relative_speck: float = 0.02, absolute_speck: float = 1e-4
) -> NDArray[np.float64]:
    """Boxes (K, 4) xyxy in pixels of the parts of a mask that count as targets (`target_components`)."""
    parts = find_components(mask)
    kept = counts_as_target(parts, relative_speck=relative_speck, absolute_speck=absolute_speck)
    return parts.boxes[kept].astype(np.float64)


def counts_as_target(
    parts: Components, *, relative_speck: float = 0.02, absolute_speck: float = 1e-4
) -> NDArray[np.bool_]:
    """(K,): which parts are no specks. A speck covers less than `relative_speck` of the largest part or less than
    `absolute_speck` of the picture; the largest part is never one."""
    if not len(parts):
        return np.zeros(0, dtype=bool)
    kept = parts.areas >= max(relative_speck * float(parts.areas[0]), absolute_speck * parts.labels.size)
    kept[0] = True
    return kept
