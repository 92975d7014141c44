"""DETR's transformer layers (Carion et al., ECCV 2020, section A.3): normalised afterwards, positions added to queries
and keys in every layer and never to values."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.nn.attention import Attention, FeedForward

__all__ = ["DetrDecoderLayer", "DetrEncoderLayer"]


class DetrEncoderLayer(nn.Module):
    """Self-attention and a feed-forward network with rectification, both residual."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, "relu", dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "B T C"], positions: Float[Tensor, "B T C"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T C"]:
        """`mask` is True on tokens that may be looked at."""
        placed = tokens + positions
        tokens = self.attention_norm(tokens + self.dropout(self.attention(placed, placed, tokens, mask[:, None])))
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))


class DetrDecoderLayer(nn.Module):
    """Queries look at one another, then at the memory; each step and the feed-forward network are residual."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, "relu", dropout)
        self.self_norm = nn.LayerNorm(width)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        query_positions: Float[Tensor, "B Q C"],
        query_mask: Bool[Tensor, "B Q"],
        memory: Float[Tensor, "B T C"],
        memory_positions: Float[Tensor, "B T C"],
        memory_mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B Q C"]:
        """The masks are True on queries and memory that may be looked at."""
        placed = queries + query_positions
        gathered = self.self_attention(placed, placed, queries, query_mask[:, None])
        queries = self.self_norm(queries + self.dropout(gathered))
        gathered = self.cross_attention(
            queries + query_positions, memory + memory_positions, memory, memory_mask[:, None]
        )
        queries = self.cross_norm(queries + self.dropout(gathered))
        return self.feed_forward_norm(queries + self.dropout(self.feed_forward(queries)))
