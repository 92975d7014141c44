"""VLT's queries: generated from image and expression (QGM), learnt, or the words; and their balance (QBM).

    map -> convolutions -> N_q maps, flattened: F_vq -> W_v -> V --.-----------------------------+-> F_q
    words F_t -> W_a, W_t ------------------------> attention over words, one a query: A_qd ------'

Thesis, sections 4.2.2 and 4.2.3, equations 4.4 to 4.6; the published code's form has four convolutions over the map
with coordinates, and attention of eight heads with projections of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.vlt.config import QueryConfig
from refseg.models.vlt.decoder import numbered
from refseg.models.vlt.fusion import ConvSettings
from refseg.nn.attention import Attention
from refseg.nn.maps import bar_map, pixel_map, word_map
from refseg.types import NamedMap

__all__ = ["Queries", "QueryBalance", "QueryGeneration", "coordinates", "query_maps"]

COORDINATES = 6
"""Channels that the published code puts beside the map."""


class Queries(NamedTuple):
    """F_q of B expressions."""

    vectors: Float[Tensor, "B Q C"]
    attention: Float[Tensor, "B Q L"] | None
    """A_qd, where there is one."""
    mask: Bool[Tensor, "B Q"] | None = None
    """True on queries that are real; None where all are."""


class QueryGeneration(nn.Module):
    """The Query Generation Module.

    `channels` are those of the map, `text_width` those of the words, `grid` the side that the linear layer over places
    is made for.
    """

    def __init__(
        self, config: QueryConfig, channels: int, text_width: int, width: int, grid: int, settings: ConvSettings
    ) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        code = config.form == "code"
        inner = channels + (COORDINATES if code else 0)
        widths = [inner] * 4 if code else [inner, *(config.channels or (inner, inner))]
        last = widths[-1]
        self.reduce = nn.Sequential(
            *(settings.conv(one, other, 3) for one, other in pairwise(widths)),
            nn.Conv2d(last, config.number, kernel_size=1) if code else settings.conv(last, config.number, 3),
        )
        # Text: W_v, W_a and W_t are matrices. The code has biases, and W_t's part is the attention's.
        self.visual = nn.Linear(grid * grid, width, bias=code)
        self.key = nn.Linear(text_width, width, bias=code)
        self.value = None if code else nn.Linear(text_width, width, bias=False)
        self.attention: Attention | None = None
        self.projections: nn.ModuleList | None = None
        if code:
            self.projections = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
            self.attention = Attention(width, config.heads, relu=True)

    def visual_queries(self, source: Float[Tensor, "N D h w"]) -> Float[Tensor, "N Q C"]:
        """V = relu(F_vq W_v), with F_vq of equation 4.4; maps of another grid are resized to the one of W_v."""
        if self.config.form == "code":
            places = coordinates(*source.shape[2:]).to(source.device, source.dtype)
            source = torch.cat([source, places.expand(len(source), -1, -1, -1)], dim=1)
        maps = self.reduce(source)
        if tuple(maps.shape[2:]) != (self.grid, self.grid):
            maps = F.interpolate(maps, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        return F.relu(self.visual(maps.flatten(2)))

    def forward(
        self, visual: Float[Tensor, "B Q C"], words: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"]
    ) -> Queries:
        """F_q and A_qd (equations 4.5 and 4.6); `visual` is V, `mask` True on words that may be looked at."""
        keys = F.relu(self.key(words))
        word_mask = mask[:, None]
        if self.attention is None or self.projections is None:
            assert self.value is not None
            scores = visual @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5
            attention = scores.masked_fill(~word_mask, float("-inf")).softmax(dim=-1)
            return Queries(attention @ F.relu(self.value(words)) + visual, attention)
        placed, words = visual + numbered(visual), keys + numbered(keys)
        query, key, value = (
            F.relu(layer(tokens)) for layer, tokens in zip(self.projections, (placed, words, words), strict=True)
        )
        gathered = self.attention(query, key, value, word_mask)
        return Queries(gathered + visual, self.attention.weights(query, key, word_mask))


class QueryBalance(nn.Module):
    """The Query Balance Module (section 4.2.3): a confidence for each query, from it and its response."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.response = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.joint = nn.Linear(2 * width, width)
        self.confidence = nn.Linear(width, 1)

    def forward(
        self, queries: Float[Tensor, "B Q C"], responses: Float[Tensor, "B Q C"]
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B Q"]]:
        """F_b, the responses times their confidences C_q, and these (0 to 1)."""
        both = torch.cat([F.relu(self.response(responses)), F.relu(self.query(queries))], dim=-1)
        confidence = self.confidence(F.relu(self.joint(both))).sigmoid()
        return responses * confidence, confidence[..., 0]


def query_maps(
    queries: Queries, features: Float[Tensor, "B Q h w"], confidence: Float[Tensor, "B Q"] | None
) -> dict[str, NamedMap]:
    """What each query reads (A_qd), where it finds it (its map of F_m, figure 4.15b), and how much it counts (C_q)."""
    names = [f"query {number + 1}" for number in range(features.shape[1])]
    maps = {
        "queries": pixel_map("where each query finds what it asks for (F_m)", features, names, confidence, apply=F.relu)
    }
    if queries.attention is not None:
        maps["words"] = word_map("what each query reads of the words (A_qd)", queries.attention, names, confidence)
    if confidence is not None:
        maps["confidence"] = bar_map("confidence of each query (C_q)", confidence, names)
    return maps


def coordinates(height: int, width: int) -> Float[Tensor, "6 h w"]:
    """The column of each cell, -1 at the left and 1 at the right, three times over; then the row in the same way."""
    columns, rows = (torch.linspace(-1, 1, length) for length in (width, height))
    return torch.cat([columns.expand(3, height, width), rows[:, None].expand(3, height, width)])
