"""Focal and box losses against numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from refseg.nn.losses import box_distance, focal_loss, generalized_iou


def test_focal_loss_passes_over_what_is_certain() -> None:
    logits, targets = torch.tensor([[[2.0, -1.0], [0.0, 3.0]]]), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    expected = 0.0
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        right, balance = (p, 0.3) if target else (1 - p, 0.7)
        expected -= balance * (1 - right) ** 1.5 * math.log(right) / 4
    assert float(focal_loss(logits, targets, 0.3, 1.5)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),  # 2 shared of 6 together, hull 6
        ((0, 0, 1, 1), (2, 0, 3, 1), -1 / 3),  # apart: hull 3, together 2
        ((0, 0, 1, 1), (1, 1, 2, 2), -0.5),  # corner to corner
        ((1, 1, 1, 1), (0, 0, 2, 2), 0.0),  # a point inside
    ],
)
def test_generalized_iou(one: tuple[int, ...], other: tuple[int, ...], expected: float) -> None:
    boxes, targets = torch.tensor([one]).float(), torch.tensor([other]).float()
    assert float(generalized_iou(boxes, targets)) == pytest.approx(expected, abs=1e-6)
    assert float(generalized_iou(targets, boxes)) == pytest.approx(expected, abs=1e-6)


def test_boxes_without_area_have_a_gradient() -> None:
    boxes = torch.zeros(1, 4, requires_grad=True)
    (1 - generalized_iou(boxes, torch.zeros(1, 4))).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_box_distance_adds_the_sides() -> None:
    assert box_distance(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.zeros(1, 4)).tolist() == pytest.approx([1.0])
