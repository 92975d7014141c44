"""VLT's transformer: two layers each of the form of Vaswani et al., NeurIPS 2017, normalised afterwards; and what the
library of the published code does otherwise, by the fields of `TransformerConfig`."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.encoders.text.glove_transformer import sinusoidal_positions
from refseg.models.vlt.config import TransformerConfig
from refseg.nn.attention import Attention, FeedForward

__all__ = ["Transformer", "numbered"]


class EncoderLayer(nn.Module):
    """Places look at one another."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, config.heads, config.dropout, config.attention_relu)
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=config.norm_eps) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B _ T"] | None) -> Float[Tensor, "B T C"]:
        """The places after one layer."""
        places = self.norms[0](places + self.dropout(self.attention(places, places, places, mask)))
        return self.norms[1](places + self.dropout(self.feed_forward(places)))


class DecoderLayer(nn.Module):
    """Queries look at one another, then at the places."""

    def __init__(self, config: TransformerConfig, width: int) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = (
            Attention(width, config.heads, config.dropout, config.attention_relu) for _ in range(2)
        )
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=config.norm_eps) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        query_mask: Bool[Tensor, "B _ Q"] | None,
        memory: Float[Tensor, "B T C"],
        memory_mask: Bool[Tensor, "B _ T"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """The queries after one layer."""
        queries = self.norms[0](queries + self.dropout(self.self_attention(queries, queries, queries, query_mask)))
        gathered = self.cross_attention(queries, memory, memory, memory_mask)
        queries = self.norms[1](queries + self.dropout(gathered))
        return self.norms[2](queries + self.dropout(self.feed_forward(queries)))


class Transformer(nn.Module):
    """Encoder over places and, where wanted, a decoder over queries."""

    def __init__(self, config: TransformerConfig, width: int, decodes: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.ModuleList(EncoderLayer(config, width) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(config, width) for _ in range(config.decoder_layers if decodes else 0)
        )

    def encode(self, places: Float[Tensor, "B T C"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B T C"]:
        """F_ve, the memory; positions are in `places` already. `mask` is True on real places."""
        looked = None if mask is None else mask[:, None]
        for layer in self.encoder:
            places = layer(places, looked)
        return places

    def decode(
        self,
        queries: Float[Tensor, "B Q C"],
        memory: Float[Tensor, "B T C"],
        memory_mask: Bool[Tensor, "B T"] | None,
        query_mask: Bool[Tensor, "B Q"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """F_r, the responses. Queries where `query_mask` is False are looked at by none."""
        if self.config.query_positions:
            queries = queries + numbered(queries)
        seen = None if query_mask is None else query_mask[:, None]
        if self.config.causal:
            count = queries.shape[1]
            before = torch.ones(count, count, dtype=torch.bool, device=queries.device).tril()
            seen = before[None].expand(len(queries), -1, -1) if seen is None else seen & before
        looked = None if memory_mask is None else memory_mask[:, None]
        for layer in self.decoder:
            queries = layer(queries, seen, memory, looked)
        return queries


def numbered(tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "N C"]:
    """Sines and cosines of the tokens' numbers from 0, of their width, type and device."""
    table = sinusoidal_positions(tokens.shape[1], tokens.shape[2])
    return table.to(tokens.device, tokens.dtype)
