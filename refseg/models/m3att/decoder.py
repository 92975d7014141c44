r"""M3Dec, the decoder whose layers fuse words and pixels, and IMI, which brings the words back between them.

    words X -> self-attention -> F_q --> mutual attention with F_enc -> F_mm --.
                                  `----> attention: F_q asks F_mm <------------'--> feed-forward -> F_dec^n
                                                                                                      |
    F_l^(n-1) -> linear -> F_l^n --> IMI: which words does F_dec^n want? -----> batch norm(F_dec^n + w_ci F_i)
                                                                                  -> X of the next layer

Residuals and layer normalisation stand where a transformer's layer has them; the thesis draws none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from refseg.models.m3att.config import M3AttConfig
from refseg.models.m3att.mutual import MutualAttention, MutualFeatures
from refseg.models.m3att.token_norm import Projection, TokenBatchNorm
from refseg.nn.attention import Attention, FeedForward

__all__ = ["Decoded", "Interaction", "MutualDecoder", "MutualLayer"]


class Decoded(NamedTuple):
    """What the decoder gives."""

    words: Float[Tensor, "B L C"]
    """F_dec, after the last layer."""
    attended: MutualFeatures
    """The last layer's mutual attention."""


class Interaction(nn.Module):
    """One IMI block (section 5.1.2)."""

    def __init__(self, width: int, norm: bool, first_weight: float, transforms: bool) -> None:
        super().__init__()
        self.language = Projection(width, width, norm, relu=norm) if transforms else None
        self.query = Projection(width, width, norm, bias=False)
        self.value = Projection(width, width, norm, bias=False)
        self.weight = nn.Parameter(torch.tensor(first_weight))
        self.norm = TokenBatchNorm(width)

    def forward(
        self,
        fused: Float[Tensor, "B L C"],
        language: Float[Tensor, "B L C"],
        mask: Bool[Tensor, "B L"] | None,
    ) -> tuple[Float[Tensor, "B L C"], Float[Tensor, "B L C"]]:
        """The next layer's query and F_l^n. `fused` is F_dec^n, `language` F_l^(n-1), `mask` True on words to see."""
        if self.language is not None:
            language = self.language(language, mask)
        scores = self.query(fused, mask) @ language.transpose(1, 2)  # equation 5.3
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        wanted = scores.softmax(dim=2) @ self.value(language, mask)
        return self.norm(fused + self.weight * wanted, mask), language


class MutualLayer(nn.Module):
    """One layer of M3Dec (figure 5.3c)."""

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        width, part = config.width, config.decoder
        self.kind = part.attention.kind
        self.self_attention = Attention(width, config.heads, config.dropout)
        self.self_norm = nn.LayerNorm(width)
        self.mutual = MutualAttention(part.attention, width, config.grid)
        self.requery = Attention(width, config.heads, config.dropout) if part.requery else None
        self.fused_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None,
        pixel_mask: Bool[Tensor, "B T"] | None,
        picture: Int[Tensor, " B"] | None,
    ) -> tuple[Float[Tensor, "B L C"], MutualFeatures]:
        """F_dec^n, and the mutual attention inside."""
        seen = None if word_mask is None else word_mask[:, None]
        queries = self.self_norm(words + self.dropout(self.self_attention(words, words, words, seen)))
        found = self.mutual(queries, pixels, size, word_mask, pixel_mask, picture)
        fused = found.features
        if self.requery is not None:
            if self.kind == "vision_attended":
                seen = None if pixel_mask is None else pixel_mask[:, None]
            fused = self.requery(queries, fused, fused, seen)
        fused = self.fused_norm(queries + self.dropout(fused))
        return self.feed_forward_norm(fused + self.dropout(self.feed_forward(fused))), found


class MutualDecoder(nn.Module):
    """N_dec layers, with an interaction between each two."""

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        part = config.decoder
        self.layers = nn.ModuleList(MutualLayer(config) for _ in range(part.layers))
        blocks = 0 if part.interaction == "none" else part.layers - 1
        transforms = part.interaction == "iterative"
        self.interactions = nn.ModuleList(
            Interaction(config.width, config.projection_norm, part.interaction_weight, transforms)
            for _ in range(blocks)
        )

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None,
        pixel_mask: Bool[Tensor, "B T"] | None,
        picture: Int[Tensor, " B"] | None,
    ) -> Decoded:
        """F_dec from F_t (`words`) and F_enc (`pixels`, N pictures; `picture[b]` is that of sentence b)."""
        language, query = words, words
        decoded, found = self.layers[0](query, pixels, size, word_mask, pixel_mask, picture)
        for index, layer in enumerate(self.layers[1:]):
            query = decoded
            if len(self.interactions):
                query, language = self.interactions[index](decoded, language, word_mask)
            decoded, found = layer(query, pixels, size, word_mask, pixel_mask, picture)
        return Decoded(decoded, found)
