"""The losses of tags, in batches with and without known objects."""

from __future__ import annotations

import torch

from refseg.nn.heads import tag_head
from refseg.nn.losses import tag_loss, tag_losses


def test_the_loss_is_weighed_and_taken_at_the_targets_size() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 8, 8) > 0.8
    enlarged = torch.nn.functional.interpolate(logits, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(tag_losses(logits, targets, 0.5)["tags"], 0.5 * tag_loss(enlarged, targets))


def test_without_targets_it_is_0_and_every_parameter_still_has_a_gradient() -> None:
    # Processes that train together exchange gradients and losses one by one: none may lack what others have.
    head = tag_head(4, ("cat", "dog"))
    assert head is not None
    losses = tag_losses(head(torch.randn(1, 4, 3, 3)), None, 0.3)
    assert losses["tags"].item() == 0.0
    losses["tags"].backward()
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


def test_without_tags_there_is_no_loss() -> None:
    assert tag_head(4, ()) is None
    assert tag_losses(None, None, 0.3) == {}
