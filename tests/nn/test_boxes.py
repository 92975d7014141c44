"""Boxes: forms and overlaps, values inside them on maps that are known everywhere, masks pasted into their image."""

import numpy as np
import pytest
import torch

from refseg.nn.boxes import box_grid, centred, corners, pair_iou, paste_coarse, pixels_of, sample_boxes
from tests.support.ramps import ramps


def test_grid_points_are_cell_centres():
    grid = box_grid(torch.tensor([[10.0, 20, 30, 60]]), 4)
    assert grid.shape == (1, 4, 4, 2)
    assert grid[0, 0, 0].tolist() == [12.5, 25.0]
    assert grid[0, 3, 1].tolist() == [17.5, 55.0]


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_sampling_reads_the_value_at_the_place(stride):
    # On a linear map bilinear sampling is exact, within the outer places.
    boxes = torch.tensor([[5.0, 8, 37, 40], [16, 3, 44, 45]])
    values = sample_boxes(ramps(stride, 64), boxes, stride, 5)
    assert values.shape == (2, 2, 5, 5)
    torch.testing.assert_close(values.permute(0, 2, 3, 1), box_grid(boxes, 5), rtol=0, atol=1e-4)


def test_points_beyond_the_map_take_its_edge():
    values = sample_boxes(ramps(8, 64), torch.tensor([[60.0, 60, 100, 100]]), 8, 2)
    assert values.unique().tolist() == [56.0]


def test_coarse_masks_lie_in_their_boxes() -> None:
    logits = torch.full((28, 28), 3.0)
    logits[:, :14] = -3.0
    pasted = paste_coarse(logits, torch.tensor([0.25, 0.5, 0.75, 1.0]), (40, 80))
    assert not (pasted[:20] > 0).any()
    assert not (pasted[:, :40] > 0).any()
    assert not (pasted[:, 60:] > 0).any()
    assert (pasted[20:, 40:60] > 0).all()


def test_pair_iou_against_pixels():
    first = torch.tensor([[0.0, 0, 4, 4], [2, 2, 8, 6], [5, 5, 5, 9]])
    second = torch.tensor([[2.0, 0, 6, 4], [0, 0, 4, 4], [9, 9, 10, 10]])
    found = pair_iou(first, second)

    def pixels(box):
        mask = np.zeros((12, 12), bool)
        x0, y0, x1, y1 = map(int, box)
        mask[y0:y1, x0:x1] = True
        return mask

    for row in range(3):
        for column in range(3):
            a, b = pixels(first[row]), pixels(second[column])
            assert float(found[row, column]) == pytest.approx((a & b).sum() / (a | b).sum())


def test_corners_are_transformers_corners() -> None:
    from transformers.image_transforms import center_to_corners_format

    boxes = torch.rand(2, 5, 4)
    torch.testing.assert_close(corners(boxes), center_to_corners_format(boxes))


def test_both_forms_are_inverse() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(centred(boxes), torch.tensor([[0.3, 0.3, 0.4, 0.2], [0.5, 0.5, 1.0, 1.0]]))
    torch.testing.assert_close(corners(centred(boxes)), boxes)


def test_pixels_are_of_the_input() -> None:
    """An image of 40 x 20 pixels that begins at row 5 and column 10 of the input."""
    found = pixels_of(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.25, 0.75, 0.5]]), (5, 10, 45, 30))
    assert found.tolist() == [[10.0, 5.0, 30.0, 45.0], [20.0, 15.0, 25.0, 25.0]]
