"""Heads that a system may have besides its paper's: a no-target logit, and tags.

GRES (Liu, Ding, Jiang, CVPR 2023, section 4.1) has a no-target classifier on its mean region. `NoTargetHead` is the
same one on what another system fuses, so that all of them can be trained and scored on expressions without target; it
is off unless a configuration says `no_target_head`. Without it a mask of few pixels counts as none, see
`refseg.inference.postprocess`.

Tags are words of which a linear map of an image's features says, place by place, whether they hold there. No paper has
this. With it an encoder that was not trained on anything before learns to see from drawn scenes, where everything is
known, many times faster than through expressions alone. A system takes it with a field `tags`, a tuple of words, empty
by default, and a weight `losses.tags`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NoTargetHead", "tag_head"]


class NoTargetHead(nn.Module):
    """Mean of the fused features, then width -> width -> 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, 1)

    def forward(self, features: Float[Tensor, "B K C"], mask: Bool[Tensor, "B K"] | None = None) -> Float[Tensor, " B"]:
        """A logit an expression; above 0 says that it has no target. `mask` is True on features that count.

        A feature map comes as `maps.flatten(2).transpose(1, 2)`.
        """
        if mask is None:
            mean = features.mean(dim=1)
        else:
            weights = mask.to(features.dtype)[..., None]
            mean = (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return self.outer(F.relu(self.inner(mean)))[:, 0]


def tag_head(channels: int, tags: Sequence[str]) -> nn.Conv2d | None:
    """The linear map from `channels` to a logit a tag; None without tags."""
    if not tags:
        return None
    head = nn.Conv2d(channels, len(tags), kernel_size=1)
    assert head.bias is not None
    nn.init.constant_(head.bias, -2.0)  # most words hold nowhere
    return head
