"""Masks as polygons that hold exactly the same pixels.

Outlines run along the edges of pixels, so that COCO's filling routine gives the mask back to the pixel. A mask of
several parts or with holes becomes one polygon whose loops are joined by lines that are walked there and back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["loops_of", "single_polygon"]

Point = tuple[int, int]


def loops_of(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """The closed outlines of a (H, W) mask as corner points (x, y), without repeating the first; holes are loops too.

    Parts that touch at a corner only are separate loops. Outer loops run clockwise (y down), holes the other way.
    """
    following = _edges(mask)
    loops: list[list[Point]] = []
    while following:
        start = next(iter(following))
        loop: list[Point] = []
        here, step = start, (0, 0)
        while True:
            options = following[here]
            # Where two parts touch, turn right: each keeps to itself.
            pick = options.index((-step[1], step[0])) if len(options) > 1 and (-step[1], step[0]) in options else 0
            taken = options.pop(pick)
            if not options:
                del following[here]
            if taken != step:
                loop.append(here)
            here, step = (here[0] + taken[0], here[1] + taken[1]), taken
            if here == start and (here not in following or (-step[1], step[0]) not in following[here]):
                break
        if len(loop) > 1 and _direction(loop[-1], loop[0]) == _direction(loop[0], loop[1]):
            loop.pop(0)
        loops.append(loop)
    return loops


def single_polygon(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One polygon (N, 2) of x, y that fills, by the even-odd rule, exactly the mask; (0, 2) for an empty one."""
    loops = loops_of(mask)
    if not loops:
        return np.zeros((0, 2))
    anchor = loops[0][0]
    points: list[Point] = list(loops[0])
    for loop in loops[1:]:
        corner = (loop[0][0], anchor[1])
        points += [anchor, corner, *loop, loop[0], corner]
    if len(loops) > 1:
        points.append(anchor)
    return np.asarray(points, dtype=np.float64)


def _edges(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """From each corner the steps along pixel edges that have the mask on their right (y points down)."""
    padded = np.pad(mask.astype(bool), 1)
    found: dict[Point, list[Point]] = {}
    inner, above = padded[1:, 1:-1], padded[:-1, 1:-1]
    left, right = padded[1:-1, :-1], padded[1:-1, 1:]
    sides: tuple[tuple[NDArray[np.bool_], Point, Point], ...] = (
        (inner & ~above, (0, 0), (1, 0)),  # a pixel's upper edge, walked to the right
        (above & ~inner, (1, 0), (-1, 0)),  # a lower edge, to the left
        (right & ~left, (0, 1), (0, -1)),  # a left edge, up
        (left & ~right, (0, 0), (0, 1)),  # a right edge, down
    )
    for side, shift, step in sides:
        rows, columns = np.nonzero(side)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            found.setdefault((column + shift[0], row + shift[1]), []).append(step)
    return found


def _direction(one: Point, other: Point) -> Point:
    return (int(np.sign(other[0] - one[0])), int(np.sign(other[1] - one[1])))
