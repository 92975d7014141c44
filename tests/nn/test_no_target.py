"""The verdict: mean of the features that count, and its loss."""

from __future__ import annotations

import math

import pytest
import torch

from refseg.nn.heads import NoTargetHead
from refseg.nn.losses import no_target_loss


@torch.no_grad()
def test_verdict_is_of_the_mean_of_what_counts() -> None:
    head = NoTargetHead(4)
    features = torch.randn(2, 5, 4)
    mask = torch.tensor([[True, False, True, False, False], [False] * 5])
    found = head(features, mask)
    assert torch.allclose(found[0], head(features[:1, [0, 2]])[0], atol=1e-6)
    hidden = head.inner((features[0, 0] + features[0, 2]) / 2).clamp(min=0)
    assert torch.allclose(found[0], head.outer(hidden)[0], atol=1e-6)
    assert found[1].isfinite()
    features[0, 1] += 1
    assert torch.equal(head(features, mask), found)


def test_loss_is_the_weighted_cross_entropy() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    told = torch.tensor([True, True, False])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1)) + math.log(1 + math.exp(0.5))) / 3
    assert float(no_target_loss(logits, told, 0.3)) == pytest.approx(0.3 * expected, rel=1e-5)
