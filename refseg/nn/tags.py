"""Tags: words of which a linear map of a picture's features says, place by place, whether they hold there.

No paper has this. With it an encoder that was not trained on anything before learns to see from drawn scenes, where
everything is known, many times faster than through sentences alone. Answers do not use it. A system takes it with a
field `tags`, a tuple of words, empty by default, and a weight `losses.tags`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.nn.losses import tag_loss

__all__ = ["tag_head", "tag_losses"]


def tag_head(channels: int, tags: Sequence[str]) -> nn.Conv2d | None:
    """The linear map from `channels` to a logit a tag; None without tags."""
    if not tags:
        return None
    head = nn.Conv2d(channels, len(tags), kernel_size=1)
    assert head.bias is not None
    nn.init.constant_(head.bias, -2.0)  # most words hold nowhere
    return head


def tag_losses(
    logits: Float[Tensor, "N T h w"] | None, targets: Bool[Tensor, "N T u v"] | None, weight: float
) -> dict[str, Tensor]:
    """{"tags": `weight` times `refseg.nn.losses.tag_loss`} at the targets' size; nothing without logits, and 0 for a
    batch without targets, with which every process of a run still has the same losses and gradients to exchange."""
    if logits is None:
        return {}
    if targets is None:
        return {"tags": 0.0 * logits.sum()}
    if logits.shape[2:] != targets.shape[2:]:
        logits = F.interpolate(logits, size=targets.shape[2:], mode="bilinear", align_corners=False)
    return {"tags": weight * tag_loss(logits, targets)}
