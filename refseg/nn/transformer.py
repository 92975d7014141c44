"""A layer of a transformer encoder (Vaswani et al., NeurIPS 2017), normalised before or after its two steps."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.nn.attention import Attention, FeedForward

__all__ = ["TransformerLayer"]


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network with GELU; both are residual.

    `norm` "pre" normalises what enters each step (and wants a last normalisation after the stack), "post" what leaves.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, norm: Literal["pre", "post"] = "pre", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, "gelu", dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "B L C"], mask: Bool[Tensor, "B _ L"] | None = None
    ) -> Float[Tensor, "B L C"]:
        """`mask` is True where a token (middle axis; of length 1 for all alike) may look at another one."""
        if self.norm == "pre":
            normal = self.attention_norm(tokens)
            tokens = tokens + self.dropout(self.attention(normal, normal, normal, mask))
            return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, tokens, tokens, mask)))
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))
