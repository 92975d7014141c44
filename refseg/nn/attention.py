"""Attention between two sets of tokens (Vaswani et al., NeurIPS 2017, section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError

__all__ = ["MLP", "Attention", "FeedForward", "TransformerLayer", "attend"]

LARGEST_SCORES, LARGEST_PIECE = 1 << 24, 1 << 21
"""Scores of a batch that are computed at once on a CPU in training, and how many where it is cut."""


class Attention(nn.Module):
    """Multi-head attention, products divided by the root of a head's width (`head_width`, or width / heads); queries,
    keys and values are projected apart, and with `relu` they and the output are rectified after their projections."""

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, relu: bool = False, head_width: int | None = None
    ) -> None:
        super().__init__()
        if heads < 1 or (head_width is None and width % heads):
            raise ConfigError(f"heads={heads} does not divide width={width}")
        self.heads, self.dropout, self.relu = heads, dropout, relu
        inner = width if head_width is None else heads * head_width
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        keys: Float[Tensor, "B K C"],
        values: Float[Tensor, "B K C"],
        mask: Bool[Tensor, "B _ K"] | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """What each query gathers. `mask` is True where a query may look; every query needs one such key."""
        parts = self._heads(self.query, queries), self._heads(self.key, keys), self._heads(self.value, values)
        seen = None if mask is None else mask[:, None]
        gathered = attend(*parts, seen, self.dropout if self.training else 0.0)
        found = self.output(gathered.transpose(1, 2).flatten(2))
        return F.relu(found) if self.relu else found

    def weights(
        self, queries: Float[Tensor, "B Q C"], keys: Float[Tensor, "B K C"], mask: Bool[Tensor, "B _ K"] | None
    ) -> Float[Tensor, "B Q K"]:
        """The mean of the heads' attention maps."""
        left, right = self._heads(self.query, queries), self._heads(self.key, keys)
        scores = left @ right.transpose(-1, -2) * left.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return scores.softmax(dim=-1).mean(dim=1)

    def _heads(self, layer: nn.Module, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B h T c"]:
        projected = layer(tokens)
        if self.relu:
            projected = F.relu(projected)
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)


def attend(
    queries: Float[Tensor, "B h Q c"],
    keys: Float[Tensor, "B h K c"],
    values: Float[Tensor, "B h K c"],
    mask: Bool[Tensor, "B _ _ K"] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "B h Q c"]:
    """softmax(scale * queries keys^T) values; `mask` is True where a query may look, `scale` None means 1 / sqrt(c).

    On a CPU the backward pass of PyTorch's fused attention takes several times as long as that of plain products, so
    training there uses these; the numbers are the same up to rounding.
    """
    if not (queries.device.type == "cpu" and torch.is_grad_enabled() and queries.requires_grad):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=scale)
    rows = queries.shape[1] * queries.shape[2] * keys.shape[2]
    if len(queries) * rows > LARGEST_SCORES and len(queries) > 1 and not dropout:
        # Some rows of the batch after others, so that scores are not written to memory between one step and the next.
        own = max(1, LARGEST_PIECE // rows)
        masks = [None] * len(queries) if mask is None else mask.expand(len(queries), -1, -1, -1).split(own)
        pieces = zip(queries.split(own), keys.split(own), values.split(own), masks, strict=False)
        return torch.cat([_plain(*piece, 0.0, scale) for piece in pieces])
    return _plain(queries, keys, values, mask, dropout, scale)


def _plain(
    queries: Float[Tensor, "B h Q c"],
    keys: Float[Tensor, "B h K c"],
    values: Float[Tensor, "B h K c"],
    mask: Bool[Tensor, "B _ _ K"] | None,
    dropout: float,
    scale: float | None,
) -> Float[Tensor, "B h Q c"]:
    scores = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return F.dropout(scores.softmax(dim=-1), dropout).to(values.dtype) @ values


class FeedForward(nn.Module):
    """Two linear layers with `hidden` units between, every token on its own."""

    def __init__(
        self, width: int, hidden: int, activation: Literal["relu", "gelu"] = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.activation = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(hidden, width)
        for layer in (self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """The tokens after both layers; the residual is the caller's."""
        return self.outer(self.dropout(self.activation(self.inner(tokens))))


class MLP(nn.Module):
    """`layers` linear layers with rectification between: width -> width -> ... -> outputs."""

    def __init__(self, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise ConfigError(f"a perceptron needs at least one layer, not {layers}")
        sizes = [width] * layers + [outputs]
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(layers))

    def forward(self, tokens: Float[Tensor, "*B C"]) -> Float[Tensor, "*B D"]:
        """The last layer's outputs, without rectification."""
        for layer in self.layers[:-1]:
            tokens = F.relu(layer(tokens))
        return self.layers[-1](tokens)


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
