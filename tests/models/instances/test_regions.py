"""RoI sampling, RoI features, coarse masks: exact on maps whose values are known everywhere."""

import pytest
import torch

from refseg.models.instances.masks import CoarseMasks, roi_features
from refseg.models.instances.types import FEATURE_DIM, MASK_SIZE
from refseg.nn.boxes import sample_boxes
from tests.support.ramps import ramps


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
