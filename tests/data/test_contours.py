"""Outlines along pixel edges: polygons fill to exactly the mask they came from."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.data.contours import loops_of, single_polygon
from refseg.data.masks import rasterise

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def area(loop: list[tuple[int, int]]) -> float:
    points = np.asarray(loop, dtype=float)
    after = np.roll(points, -1, axis=0)
    return float((points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]).sum() / 2)


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2:7] = True
    (loop,) = loops_of(mask)
    assert sorted(loop) == [(2, 1), (2, 4), (7, 1), (7, 4)]


def test_a_ring_has_an_outer_loop_and_a_hole() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    assert sorted(area(loop) for loop in loops_of(mask)) == [-1.0, 25.0]


def test_parts_that_touch_at_a_corner_stay_apart() -> None:
    assert [area(loop) for loop in loops_of(np.eye(3, dtype=bool))] == [1.0, 1.0, 1.0]


def test_an_empty_mask_has_no_outline() -> None:
    assert loops_of(np.zeros((3, 3), dtype=bool)) == []
    assert single_polygon(np.zeros((3, 3), dtype=bool)).shape == (0, 2)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_areas_of_the_loops_add_up_to_the_pixels(mask: np.ndarray) -> None:
    assert sum(area(loop) for loop in loops_of(mask)) == mask.sum()


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_one_polygon_fills_to_exactly_the_mask(mask: np.ndarray) -> None:
    polygon = single_polygon(mask)
    filled = rasterise([polygon.reshape(-1)], mask.shape) if len(polygon) else np.zeros_like(mask)
    np.testing.assert_array_equal(filled, mask)
