"""Objects' outlines as pages draw them: closed rings to be filled by the nonzero rule."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refseg.apps.annotate.database.tables import Object
from refseg.data import rle
from refseg.data.contours import loops_of
from refseg.data.masks import SegmentationSource, bounding_box, rasterise
from refseg.data.sample import Instance
from refseg.errors import DataError

_MOST_POINTS = 20_000
KeptOutline: TypeAlias = list[list[float]] | dict[str, Any]
"""An outline as the database keeps it: polygons x, y, x, y, ..., or a run-length encoding."""


def rings_of(item: Instance, size: tuple[int, int]) -> tuple[list[list[float]], KeptOutline, float]:
    """An object's rings, its outline as it is kept (polygons or an encoding), and its area in pixels.

    Polygons stay as they are, all turned the same way round so that the nonzero rule gives their union; masks become
    the edges of their pixels, holes the other way round. Raises `DataError` for an outline that cannot be drawn.
    """
    mask = item.mask(size)
    area = float(mask.sum())
    if isinstance(item.segmentation, list):
        rings = [_same_way_round(polygon) for polygon in item.segmentation]
        return rings, [polygon.tolist() for polygon in item.segmentation], area
    kept = item.segmentation if isinstance(item.segmentation, dict) else rle.encode(mask)
    if not isinstance(kept["counts"], str):
        kept = rle.encode(rasterise(kept, size))
    return mask_rings(mask), {"size": list(size), "counts": kept["counts"]}, area


def drawn_values(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The columns of an `Object` that its (H, W) mask gives. Raises `DataError` for an empty one."""
    if not mask.any():
        raise DataError("the mask covers no pixel")
    left, top, right, bottom = bounding_box(mask)
    area = float(mask.sum())
    return {
        "left": left, "top": top, "right": right, "bottom": bottom, "area": area, "segmentation": rle.encode(mask),
        "rings": mask_rings(mask),
    }  # fmt: skip


def rle_of(segmentation: KeptOutline, size: tuple[int, int]) -> dict[str, Any]:
    """A kept outline as a run-length encoding of its pixels at the picture's own (height, width)."""
    if isinstance(segmentation, dict):
        return segmentation
    polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
    return rle.encode(rasterise(polygons, size))


def outline_of(row: Object) -> SegmentationSource:
    """An object's outline as the toolkit reads it: polygons as arrays x, y, x, y, ..., or an encoding."""
    outline = row.segmentation
    return [np.asarray(polygon, dtype=np.float64) for polygon in outline] if isinstance(outline, list) else outline


def mask_rings(mask: NDArray[np.bool_]) -> list[list[float]]:
    """The outlines of a (H, W) mask along its pixels' edges; the longest ones where there are too many for a page."""
    loops = sorted(loops_of(mask), key=len, reverse=True)
    rings: list[list[float]] = []
    points = 0
    for loop in loops:
        points += len(loop)
        if points > _MOST_POINTS:
            break
        rings.append([float(value) for point in loop for value in point])
    return rings


def _same_way_round(polygon: NDArray[np.float64]) -> list[float]:
    points = polygon.reshape(-1, 2)
    along, down = points[:, 0], points[:, 1]
    turn = float(np.dot(along, np.roll(down, -1)) - np.dot(down, np.roll(along, -1)))
    return [round(float(value), 2) for value in (points if turn >= 0 else points[::-1]).reshape(-1)]
