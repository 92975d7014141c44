"""Self-attention inside square windows of a map, every other time shifted by half a window (Swin, section 3.2).

Tokens stay in reading order. A gather brings them into windows and another one brings them back, so that shifting,
padding and partitioning are one copy. Padding is never multiplied: a zero token has the bias alone as its query, key
and value, so one extra row stands for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WindowAttention", "WindowLayout", "window_layout"]

MASKED = -100.0
"""Added to the score of two tokens that a shift brought into one window from opposite borders; the value of the paper's
code, where such tokens still see each other when all other scores are below it by a hundred."""

CHUNK_BYTES = 1_500_000
"""Scores worked on at a time without gradients, so that they stay in a core's cache."""


@dataclass(frozen=True)
class WindowKind:
    """W windows in which the same slots are real and the same pairs are masked.

    `queries` are their m real slots, or None when all n are; `mask` is added to the scores, or None when it is zero.
    """

    windows: int
    queries: Int[Tensor, " m"] | None
    mask: Float[Tensor, "m n"] | None


@dataclass(frozen=True)
class WindowLayout:
    """Which token goes where, for the T tokens of one picture and one padding token after them.

    Rows are a token's query, key or value of one head: row (token * 3 + part) * heads + head. `gather` brings them into
    the order "kind part window head slot", of queries the real ones only. `scatter` brings rows "kind window head slot"
    of results back into the order "token head".
    """

    kinds: tuple[WindowKind, ...]
    gather: Int[Tensor, " R"]
    scatter: Int[Tensor, " S"]
    padded: bool


@lru_cache(maxsize=64)
def window_layout(height: int, width: int, window: int, shift: int, heads: int, device: torch.device) -> WindowLayout:
    """The layout of a `height` x `width` map, padded below and right to whole windows, then rolled by `shift`.

    The padding is not masked: padded tokens are attended to like others (the published code does so), but ask nothing.
    """
    # Cached tensors may meet training later, so they must not become inference tensors.
    with torch.inference_mode(False):
        tokens = height * width
        slots, bands = _windows(height, width, window, shift)
        alike: dict[tuple[Any, ...], list[int]] = {}
        for index, (real, band) in enumerate(zip((slots < tokens).tolist(), bands.tolist(), strict=True)):
            alike.setdefault((*real, *(rank - min(band) for rank in band)), []).append(index)
        kinds, gather, results = [], [], []
        head = torch.arange(heads)[:, None]
        for members in alike.values():
            real = slots[members[0]] < tokens
            apart = (bands[members[0]][:, None] != bands[members[0]][None, :])[real]
            mask = torch.zeros(apart.shape).masked_fill(apart, MASKED).to(device) if bool(apart.any()) else None
            queries = None if bool(real.all()) else real.nonzero().flatten().to(device)
            kinds.append(WindowKind(len(members), queries, mask))
            # "windows 1 slots" of tokens, with the heads as the middle axis
            asking, asked = slots[members][:, None, real], slots[members][:, None]
            for part, who in enumerate((asking, asked, asked)):
                gather.append(((who * 3 + part) * heads + head).flatten())
            results.append((asking * heads + head).flatten())
        rows = torch.cat(results)
        scatter = torch.empty_like(rows)
        scatter[rows] = torch.arange(len(rows))
        padded = len(rows) < slots.numel() * heads
        return WindowLayout(tuple(kinds), torch.cat(gather).to(device), scatter.to(device), padded)


def _windows(height: int, width: int, window: int, shift: int) -> tuple[Int[Tensor, "W n"], Int[Tensor, "W n"]]:
    """The token in every slot of every window (height * width for padding), and the band of the rolled map it is in."""
    rows, columns = -(-height // window), -(-width // window)
    slots = torch.full((rows * window, columns * window), height * width)
    slots[:height, :width] = torch.arange(height * width).view(height, width)
    bands = torch.zeros(rows * window, columns * window, dtype=torch.long)
    if shift:
        slots = slots.roll((-shift, -shift), (0, 1))
        for number, stretch in enumerate((slice(-window, -shift), slice(-shift, None)), start=1):
            bands[stretch, :] += 3 * number
            bands[:, stretch] += number
    slots, bands = (
        grid.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1) for grid in (slots, bands)
    )
    return slots, bands


class WindowAttention(nn.Module):
    """Multi-head attention with a learned bias for every offset between two tokens of a window."""

    def __init__(self, width: int, heads: int, window: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def position_bias(self) -> Float[Tensor, "heads n n"]:
        """The bias of every pair: row is the query's slot, column the key's, both in reading order of the window."""
        span, window = 2 * self.window - 1, self.window
        table = self.relative_position_bias_table.view(span, span, self.heads).permute(2, 0, 1)
        # bias[i, j] = table[i - j + window - 1] along each axis: with the table reversed, row i is the stretch of
        # `window` values that begins at window - 1 - i.
        rows = table.flip(1, 2).unfold(1, window, 1).unfold(2, window, 1).flip(1, 2)
        return rows.reshape(self.heads, window * window, window * window)

    def forward(self, tokens: Float[Tensor, "B T C"], layout: WindowLayout) -> Float[Tensor, "B T C"]:
        """Attend inside the windows of `layout`."""
        pictures, _, width = tokens.shape
        slots, head_width = self.window * self.window, width // self.heads
        if layout.padded:
            tokens = F.pad(tokens, (0, 0, 0, 1))
        rows = _select(self.qkv(tokens).view(pictures, -1, head_width), layout.gather)
        # In low precision the bias lifts the scores to float32, where the softmax wants them.
        bias = self.position_bias().float()
        attended, begin = [], 0
        for kind in layout.kinds:
            asking = slots if kind.queries is None else len(kind.queries)
            lengths = [kind.windows * self.heads * count for count in (asking, slots, slots)]
            query, key, value = (
                part.view(pictures, kind.windows, self.heads, -1, head_width)
                for part in rows[:, begin : begin + sum(lengths)].split(lengths, dim=1)
            )
            begin += sum(lengths)
            kind_bias = bias if kind.queries is None else bias.index_select(1, kind.queries)
            if kind.mask is not None:
                kind_bias = kind_bias + kind.mask
            step = kind.windows
            if not torch.is_grad_enabled():
                step = max(1, CHUNK_BYTES // (4 * pictures * self.heads * slots * slots))
            for first in range(0, kind.windows, step):
                some = slice(first, first + step)
                result = _attend(query[:, some], key[:, some], value[:, some], kind_bias)
                attended.append(result.view(pictures, -1, head_width))
        merged = torch.cat(attended, dim=1) if len(attended) > 1 else attended[0]
        return self.proj(_select(merged, layout.scatter).view(pictures, -1, width))


def _select(rows: Float[Tensor, "B R c"], index: Int[Tensor, " S"]) -> Float[Tensor, "B S c"]:
    """Rows in another order; one picture is the fast case."""
    if len(rows) == 1:
        return rows[0].index_select(0, index)[None]
    return rows.index_select(1, index)


def _attend(
    query: Float[Tensor, "B W heads m c"],
    key: Float[Tensor, "B W heads n c"],
    value: Float[Tensor, "B W heads n c"],
    bias: Float[Tensor, "heads m n"],
) -> Float[Tensor, "M m c"]:
    query, key, value = (part.flatten(0, 2) for part in (query, key, value))
    scores = torch.bmm(query, key.transpose(1, 2)).view(-1, *bias.shape)
    scores = torch.add(bias, scores, alpha=query.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(dim=-1).to(value.dtype).flatten(0, 1), value)
