"""RoI sampling, RoI features, coarse masks: exact on maps whose values are known everywhere."""

import pytest
import torch

from refseg.models.instances.regions import CoarseMasks, box_grid, roi_features, sample_boxes
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE


def ramps(stride, side, channels=2):
    """A map whose first channel is x in pixels and whose second is y, at the places of a stride."""
    cells = side // stride
    place = torch.arange(cells) * float(stride)
    return torch.stack([place.expand(cells, -1), place[:, None].expand(-1, cells)])[:channels]


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


def test_features_are_means_of_three_levels():
    pyramid = [ramps(stride, 128) for stride in (8, 16, 32)]
    boxes = torch.tensor([[10.0, 20, 60, 90], [0, 0, 8, 8]])
    features = roi_features(pyramid, boxes)
    assert features.shape == (2, 6)
    # The mean of a linear map over a box is its value at the centre.
    torch.testing.assert_close(features[0], torch.tensor([35.0, 55] * 3), rtol=0, atol=1e-4)
    assert roi_features(pyramid, boxes[:0]).shape == (0, 6)


def test_coarse_masks_are_prototypes_times_coefficients():
    coarse = CoarseMasks(stem_width=3, pyramid=5, prototypes=4)
    stem, eighth = torch.randn(2, 3, 32, 32), torch.randn(2, 5, 16, 16)
    prototypes = coarse.prototypes(stem, eighth)
    assert prototypes.shape == (2, 4, 32, 32)
    boxes = torch.tensor([[10.0, 12, 80, 100], [40, 40, 60, 120]])
    features = torch.randn(2, FEATURE_DIM)
    with torch.no_grad():
        coarse.position.normal_()
        prototypes = prototypes.detach()
        logits = coarse(prototypes[1], features, boxes, side=128)
        values = coarse.coefficients(torch.cat([features, boxes / 128], dim=1))
        inside = sample_boxes(prototypes[1], boxes, 4, MASK_SIZE)
    for number in range(2):
        for row in (0, 13, 27):
            for column in (0, 9, 27):
                wanted = sum(float(inside[number, p, row, column] * values[number, p]) for p in range(4)) / 4**0.5
                wanted += float(values[number, 4] + coarse.position[row, column].detach())
                assert float(logits[number, row, column]) == pytest.approx(wanted, abs=1e-4)
    assert coarse(prototypes[0], features[:0], boxes[:0], 128).shape == (0, MASK_SIZE, MASK_SIZE)
