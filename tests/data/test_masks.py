from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refseg.data import rle
from refseg.data.masks import bounding_box, clean_segmentation, rasterise, resize_nearest
from refseg.errors import DataError

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def test_a_polygon_a_person_can_check() -> None:
    polygon = [np.array([1.0, 1.0, 4.0, 1.0, 4.0, 3.0, 1.0, 3.0])]
    wanted = np.zeros((5, 6), dtype=bool)
    wanted[1:3, 1:4] = True
    assert (rasterise(polygon, (5, 6)) == wanted).all()
    doubled = rasterise(polygon, (5, 6), (10, 12))
    assert (doubled == wanted.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_overlapping_polygons_are_a_union() -> None:
    first, second = np.array([0.0, 0, 3, 0, 3, 3, 0, 3]), np.array([1.0, 1, 4, 1, 4, 4, 1, 4])
    both = rasterise([first, second], (5, 5))
    assert (both == (rasterise([first], (5, 5)) | rasterise([second], (5, 5)))).all()


@given(SIZES.flatmap(lambda size: arrays(bool, size)), SIZES)
def test_nearest_resize_takes_the_pixel_under_each_centre(mask: np.ndarray, size: tuple[int, int]) -> None:
    out = resize_nearest(mask, size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = int((row + 0.5) * mask.shape[0] / size[0])
            x = int((column + 0.5) * mask.shape[1] / size[1])
            assert out[row, column] == mask[y, x]


@given(SIZES.flatmap(lambda size: arrays(bool, size)))
def test_encodings_round_trip_in_both_forms(mask: np.ndarray) -> None:
    assert (rasterise(rle.encode(mask), mask.shape) == mask).all()
    flat = np.concatenate([[False], mask.T.reshape(-1), [not mask.T.reshape(-1)[-1]]])
    starts = np.flatnonzero(np.diff(flat.astype(int)) != 0)
    runs = np.diff(np.concatenate([[0], starts])).tolist()
    if sum(runs) < mask.size:
        runs.append(mask.size - sum(runs))
    assert (rasterise({"size": list(mask.shape), "counts": runs}, mask.shape) == mask).all()


@given(SIZES.flatmap(lambda size: arrays(bool, size)))
def test_box_holds_every_pixel_and_no_empty_edge(mask: np.ndarray) -> None:
    left, top, right, bottom = (int(value) for value in bounding_box(mask))
    assert mask[top:bottom, left:right].sum() == mask.sum()
    if mask.any():
        inner = mask[top:bottom, left:right]
        assert inner[0].any()
        assert inner[-1].any()
        assert inner[:, 0].any()
        assert inner[:, -1].any()


@pytest.mark.parametrize(
    ("value", "kept", "words"),
    [
        ([[0, 0, 1, 0, 1, 1]], 1, None),
        ([0, 0, 1, 0, 1, 1], 1, None),
        ([[0, 0, 1, 0]], 0, "4 values"),
        ([[0, 0, 1, 0, 1, 1, 2]], 0, "7 values"),
        ([[0, 0, 1, 0, 1, 1], [1, 2]], 1, "2 values"),
        ([[0, 0, 1, 0, 1, "a"]], 0, "not numbers"),
        ([[0, 0, 1, 0, 1, None]], 0, "finite|numbers"),
        ([[0, 0, 1, 0, 1, float("nan")]], 0, "finite"),
        ([[0, 0, 1, 0, 1, 1e300]], 0, "far outside"),
        ([], 0, "no polygons"),
        (None, 0, "no polygons"),
        ("abc", 0, "no polygons"),
        ([{}], 0, "not numbers"),
        ({"size": [5, 5], "counts": [25]}, 25, None),
        ({"size": [5, 6], "counts": [30]}, 0, "picture is 5 x 5"),
        ({"size": [5, 5], "counts": [24]}, 0, "add up to 24"),
        ({"size": [5, 5], "counts": [-1, 26]}, 0, "0 or more"),
        ({"size": [5, 5], "counts": ["a"]}, 0, "integers"),
        ({"size": [5, 5], "counts": "é"}, 0, "not its own"),
        ({"size": [5, 5], "counts": "zzzz"}, 0, "middle|character|negative|add up"),
        ({"size": [5, 5], "counts": None}, 0, "counts"),
        ({"counts": "a"}, 0, "size"),
    ],
)
def test_outlines_are_checked(value: object, kept: int, words: str | None) -> None:
    segmentation, problems = clean_segmentation(value, (5, 5))
    assert (segmentation is None) == (kept == 0)
    if words is None:
        assert problems == []
    else:
        import re

        assert re.search(words, problems[0])
    if segmentation is not None:
        assert rasterise(segmentation, (5, 5)).shape == (5, 5)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="picture is 2 x 3"):
        rasterise(np.ones((3, 3), dtype=bool), (2, 3))
    assert not rasterise(None, (2, 3)).any()
