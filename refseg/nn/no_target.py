"""The verdict "the sentence means nothing here" for systems that were published without one.

    fused features (words, pixels or queries that have seen both) -> mean of the real ones -> two linear layers -> logit

GRES (Liu, Ding, Jiang, CVPR 2023, section 4.1) has such a classifier on its mean region; this is the same one on what
another system fuses, so that all of them can be trained and scored on sentences without target. It is off unless a
configuration says `no_target_head`; without it a mask of few pixels counts as none, see `refseg.inference.postprocess`.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NoTargetHead", "no_target_loss"]


class NoTargetHead(nn.Module):
    """Mean of the fused features, then width -> width -> 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, 1)

    def forward(self, features: Float[Tensor, "B K C"], mask: Bool[Tensor, "B K"] | None = None) -> Float[Tensor, " B"]:
        """A logit a sentence; above 0 says that nothing is meant. `mask` is True on features that count.

        A feature map comes as `maps.flatten(2).transpose(1, 2)`.
        """
        if mask is None:
            mean = features.mean(dim=1)
        else:
            weights = mask.to(features.dtype)[..., None]
            mean = (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return self.outer(F.relu(self.inner(mean)))[:, 0]


def no_target_loss(
    logits: Float[Tensor, " B"], no_target: Bool[Tensor, " B"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """`weight` times the mean binary cross entropy of the verdicts."""
    return weight * F.binary_cross_entropy_with_logits(logits, no_target.to(logits.dtype))
