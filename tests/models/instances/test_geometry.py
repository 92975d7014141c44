"""Layouts against plain loops, and relations on boxes that leave no doubt."""

from __future__ import annotations

import math

import pytest
import torch

from refseg.models.instances.evidence import lay_out
from refseg.models.instances.places import direction_of_hour
from refseg.models.instances.relations import relation


def boxes(count: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    corner = torch.rand(count, 2) * 0.6
    return torch.cat([corner, corner + 0.05 + torch.rand(count, 2) * 0.35], dim=1)


def test_layout_is_what_loops_say() -> None:
    placed, (height, width) = boxes(7, 0), (300, 400)
    layout = lay_out(placed, (height, width))
    pixels = (placed * torch.tensor([width, height, width, height])).tolist()
    for i, (x0, y0, x1, y1) in enumerate(pixels):
        assert float(layout.x[i]) * 400 == pytest.approx((x0 + x1) / 2, rel=1e-4)
        assert float(layout.foot[i]) * 400 == pytest.approx(y1, rel=1e-4)
        assert float(layout.area[i]) == pytest.approx((x1 - x0) * (y1 - y0) / (300 * 400), rel=1e-4)
        for j, (a0, b0, a1, b1) in enumerate(pixels):
            across, down = min(x1, a1) - max(x0, a0), min(y1, b1) - max(y0, b0)
            shared = max(across, 0) * max(down, 0)
            one, other = (x1 - x0) * (y1 - y0), (a1 - a0) * (b1 - b0)
            assert float(layout.iou[i, j]) == pytest.approx(shared / (one + other - shared), abs=1e-4)
            assert float(layout.inside[i, j]) == pytest.approx(shared / one, abs=1e-4)
            assert float(layout.gap[i, j]) * 400 == pytest.approx(math.hypot(max(-across, 0), max(-down, 0)), abs=1e-2)


def test_doubles_are_suppressed_greedily() -> None:
    # The first three are one thing, the third only as the second one's neighbour; the last one stands alone.
    placed = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.13, 0.1, 0.53, 0.5], [0.22, 0.1, 0.62, 0.5], [0.7, 0.7, 0.9, 0.9]])
    layout = lay_out(placed, (100, 100))
    assert layout.doubles(torch.tensor([0.9, 0.8, 0.7, 0.6])).tolist() == [False, True, False, False]
    assert layout.doubles(torch.tensor([0.7, 0.9, 0.8, 0.6])).tolist() == [True, False, True, False]


def test_a_weak_part_is_a_double_and_a_plain_child_is_not() -> None:
    layout = lay_out(torch.tensor([[0.1, 0.1, 0.6, 0.9], [0.2, 0.2, 0.5, 0.6]]), (100, 100))
    assert layout.doubles(torch.tensor([0.9, 0.3])).tolist() == [False, True]
    assert layout.doubles(torch.tensor([0.9, 0.8])).tolist() == [False, False]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("left_of", [0.1, 0.4, 0.3, 0.6], [0.5, 0.4, 0.7, 0.6]),
        ("above", [0.4, 0.1, 0.6, 0.3], [0.4, 0.6, 0.6, 0.8]),
        ("behind", [0.3, 0.2, 0.5, 0.5], [0.35, 0.4, 0.6, 0.9]),
        ("on", [0.4, 0.2, 0.6, 0.5], [0.3, 0.45, 0.7, 0.9]),
    ],
)
def test_relations_hold_one_way(kind: str, one: list[float], other: list[float]) -> None:
    found = relation(kind, lay_out(torch.tensor([one, other]), (200, 200)))
    assert float(found[0, 1]) > float(found[1, 0]) + 1
    assert (found <= 1e-6).all()
    opposite = {"left_of": "right_of", "above": "under", "behind": "in_front_of"}.get(kind)
    if opposite:
        torch.testing.assert_close(relation(opposite, lay_out(torch.tensor([one, other]), (200, 200))).T, found)


def test_the_nearest_is_nearest() -> None:
    placed = torch.tensor([[0.0, 0.4, 0.1, 0.5], [0.3, 0.4, 0.4, 0.5], [0.8, 0.4, 0.9, 0.5]])
    found = relation("nearest", lay_out(placed, (100, 100)))
    assert float(found[1, 0]) > float(found[2, 0])


def test_hours_turn_clockwise_from_the_top() -> None:
    assert direction_of_hour(12) == pytest.approx((0, -1), abs=1e-9)
    assert direction_of_hour(3) == pytest.approx((1, 0), abs=1e-9)
    assert direction_of_hour(6) == pytest.approx((0, 1), abs=1e-9)
