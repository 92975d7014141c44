"""The losses against loops, and the minimap that a person can read."""

from __future__ import annotations

import math

import pytest
import torch

from refseg.nn.losses import dice_loss, minimap_targets, resize_logits, resize_masks, weighted_cross_entropy


def entropy(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -(target * math.log(probability) + (1 - target) * math.log(1 - probability))


def test_weighted_cross_entropy_is_the_published_one_on_pairs() -> None:
    pairs, labels = torch.randn(7, 2), torch.tensor([0, 1, 1, 0, 0, 1, 0])
    theirs = torch.nn.functional.cross_entropy(pairs, labels, weight=torch.tensor([0.9, 1.1]))
    ours = weighted_cross_entropy(pairs[:, 1] - pairs[:, 0], labels.float(), 0.9, 1.1)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_weighted_cross_entropy_with_shares() -> None:
    logits, targets = [0.5, -2.0, 1.0], [0.25, 1.0, 0.0]
    weights = [0.5 + t * 1.5 for t in targets]
    total = sum(w * entropy(x, t) for w, x, t in zip(weights, logits, targets, strict=True)) / sum(weights)
    ours = weighted_cross_entropy(torch.tensor(logits), torch.tensor(targets), 0.5, 2.0)
    assert float(ours) == pytest.approx(total, rel=1e-5)
    plain = sum(entropy(x, t) for x, t in zip(logits, targets, strict=True)) / 3
    assert float(weighted_cross_entropy(torch.tensor(logits), torch.tensor(targets))) == pytest.approx(plain, rel=1e-5)


def test_dice_is_a_mean_over_sentences() -> None:
    logits = torch.tensor([[[9.0, -9.0]], [[-30.0, -30.0]]])
    targets = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    first = 1 - (2 * (1 / (1 + math.exp(-9)) + 1 / (1 + math.exp(9))) + 1) / (1 + 2 + 1)
    assert float(dice_loss(logits, targets)) == pytest.approx(first / 2, abs=1e-6)


def test_minimap_of_the_published_code_wants_four_pixels() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 1:3, 1:3] = True  # the four centre pixels of the upper left cell
    masks[0, 0:3, 5:7] = True  # more than the centre
    masks[0, 5:8, 1:2] = True  # the left half of the centre
    assert minimap_targets(masks, 2, "centre").tolist() == [[1, 1, 0, 0]]
    assert minimap_targets(masks, 2, "area").tolist() == [[4 / 16, 6 / 16, 3 / 16, 0]]
    assert minimap_targets(masks, 2, "any").tolist() == [[1, 1, 1, 0]]


def test_minimap_rule_holds_at_480() -> None:
    masks = torch.rand(2, 480, 480) > 0.2
    found = minimap_targets(masks, 10, "centre").view(2, 10, 10)
    for row in range(10):
        for column in range(10):
            four = masks[:, 48 * row + 23 : 48 * row + 25, 48 * column + 23 : 48 * column + 25]
            assert torch.equal(found[:, row, column].bool(), four.flatten(1).all(dim=1))


def test_resizing() -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :2, :1] = True
    assert resize_masks(masks, (2, 2)).tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    logits = torch.tensor([[[0.0, 4.0]]])
    assert resize_logits(logits, (1, 2)) is logits
    assert resize_logits(logits, (1, 4)).tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
