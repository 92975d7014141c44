"""Connected parts of a mask: against scipy's labelling, and on masks that a person can read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from refseg.errors import RefsegError
from refseg.inference.connected_components import find_components, target_boxes


def from_text(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


@settings(max_examples=150, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans()))
def test_parts_are_those_of_scipy(mask: np.ndarray) -> None:
    found = find_components(mask)
    expected, count = ndimage.label(mask, np.ones((3, 3)))
    labels = found.labels
    assert len(found) == count
    assert np.array_equal(labels >= 0, mask)
    for part in range(count):
        pixels = labels == part
        assert np.array_equal(pixels, expected == expected[pixels][0])
        rows, columns = np.nonzero(pixels)
        assert found.areas[part] == len(rows)
        assert found.boxes[part].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert (np.diff(found.areas) <= 0).all()


def test_a_spiral_is_one_part_and_a_cut_makes_two() -> None:
    spiral = from_text(
        "#######",
        "......#",
        "#####.#",
        "#...#.#",
        "#.#.#.#",
        "#.###.#",
        "#.....#",
        "#######",
    )
    assert find_components(spiral).areas.tolist() == [int(spiral.sum())]
    spiral[7, 3] = False
    assert find_components(spiral).boxes.tolist() == [[0, 2, 5, 8], [0, 0, 7, 8]]


def test_corners_connect_and_rows_do_not_wrap_around() -> None:
    assert len(find_components(from_text("#..", ".#.", "..#"))) == 1
    assert len(find_components(from_text("..#", "#..", "..."))) == 2


def test_specks_have_no_box_unless_they_are_all_there_is() -> None:
    mask = np.zeros((100, 100), bool)
    mask[10:50, 10:50] = True  # 1600 pixels
    mask[70:76, 70:76] = True  # 36 pixels: more than a fiftieth
    mask[90:95, 5:11] = True  # 30 pixels: fewer than the fiftieth, 32
    assert target_boxes(mask).tolist() == [[10, 10, 50, 50], [70, 70, 76, 76]]
    assert len(target_boxes(mask, relative_speck=0.01)) == 3
    speck = np.zeros((1000, 1000), bool)
    speck[3, 4] = True  # below a ten-thousandth of the picture, but the largest
    assert target_boxes(speck).tolist() == [[4, 3, 5, 4]]


def test_an_empty_mask_has_no_parts() -> None:
    found = find_components(np.zeros((3, 5), bool))
    assert len(found) == 0
    assert (found.labels == -1).all()
    assert target_boxes(np.zeros((3, 5), bool)).shape == (0, 4)


def test_only_masks_are_taken() -> None:
    with pytest.raises(RefsegError, match="bool"):
        find_components(np.zeros(3, bool))
