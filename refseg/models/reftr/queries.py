"""RefTR's queries (Li, Sigal, NeurIPS 2021, section 3.2), and the consistency energy that its code can add."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.reftr.config import RefTRConfig

__all__ = ["Consistency", "QueryEncoder", "normalised_mlp"]


def normalised_mlp(inputs: int, width: int, dropout: float) -> nn.Sequential:
    """Two linear layers, each normalised and rectified: the projections of the published code."""
    layers = [nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU())


class QueryEncoder(nn.Module):
    """Phrases to queries (section 3.2): context and phrase through an MLP, plus a learnt bias."""

    def __init__(self, config: RefTRConfig) -> None:
        super().__init__()
        width = config.width
        self.context, self.count = config.context, config.queries
        self.placed = config.query_bias == "content_position"
        if config.context == "attention":
            self.key, self.query, self.value = (nn.Linear(width, width) for _ in range(3))
            self.output = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.fuse = normalised_mlp(width if config.context == "none" else 2 * width, width, config.dropout)
        self.bias = nn.Embedding(config.queries, 2 * width if self.placed else width)

    def forward(
        self, words: Float[Tensor, "B L C"], span: Bool[Tensor, "B P L"], vectors: Float[Tensor, "B P C"]
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q C"], Float[Tensor, "B P L"] | None]:
        """Queries (equation 2, Q = P times the queries a phrase), their positions, and the attention of `context`
        "attention". `words` are encoded; each span holds at least one of them."""
        context, attention = self._context(words, span)
        fused = self.fuse(vectors if context is None else torch.cat([context, vectors], dim=2))
        biased = (fused[:, :, None] + bias for bias in self.bias.weight.split(fused.shape[2], dim=1))
        queries, *positions = (each.flatten(1, 2) for each in biased)
        return queries, positions[0] if self.placed else torch.zeros_like(queries), attention

    def _context(self, words: Tensor, span: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.context == "none":
            return None, None
        if self.context == "average":
            shares = span.to(words.dtype)
            return (shares @ words) / shares.sum(dim=2, keepdim=True), None
        first = words[:, :1]
        # Not divided by the square root of the width, as in the code.
        scores = (self.query(words) @ self.key(first).transpose(1, 2)).transpose(1, 2)
        attention = scores.masked_fill(~span, float("-inf")).softmax(dim=-1)
        return first + self.output(attention.to(words.dtype) @ self.value(words)), attention


class Consistency(nn.Module):
    """MCN's consistency energy (Luo et al., CVPR 2020, section 3.3): where a query's meaning is alike the mask's
    features, weighted by how much query and pixel count."""

    def __init__(self, width: int, features: int, queries: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(width, 1) if queries > 1 else None  # a softmax over one query is 1
        self.of_pixel = nn.Linear(features, 1)
        self.project = nn.Linear(width, features)

    def forward(self, queries: Float[Tensor, "K n C"], features: Float[Tensor, "K E h w"]) -> Float[Tensor, " K"]:
        """-log of the energy of each phrase with its n queries: 0 at best."""
        pixels = features.flatten(2).transpose(1, 2)
        where = self.of_pixel(pixels).float().softmax(dim=1)
        alike = F.cosine_similarity(self.project(queries).float()[:, :, None], pixels.float()[:, None], dim=-1)
        energy = ((alike + 1) / 2 @ where)[..., 0]
        if self.of_query is not None:
            energy = energy * self.of_query(queries).float().softmax(dim=1)[..., 0]
        else:
            energy = energy.mean(dim=1, keepdim=True)
        return -energy.sum(dim=1).clamp(min=1e-6).log()
