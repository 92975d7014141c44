"""Self-attention inside windows of a map or of a clip's maps, every other time shifted by half a window (Swin, section
3.2; Video Swin, section 3.2).

Tokens stay in reading order. A gather brings them into windows and another one brings them back, so that shifting,
padding and partitioning are one copy. Padding is never multiplied: a zero token has the bias alone as its query, key
and value, so one extra row stands for all of it.
"""

from __future__ import annotations

import math
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
    """Which token goes where, for the T tokens of one picture or clip and one padding token after them.

    Rows are a token's query, key or value of one head: row (token * 3 + part) * heads + head. `gather` brings them into
    the order "kind part window head slot", of queries the real ones only. `scatter` brings rows "kind window head slot"
    of results back into the order "token head".
    """

    kinds: tuple[WindowKind, ...]
    gather: Int[Tensor, " R"]
    scatter: Int[Tensor, " S"]
    padded: bool
    slots: int
    """n, of a window."""


@lru_cache(maxsize=64)
def window_layout(
    size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], heads: int, device: torch.device
) -> WindowLayout:
    """The layout of tokens of `size` ((height, width), or (frames, height, width)), padded at the end of each axis to
    whole windows, then rolled by `shift`.

    The padding is not masked: padded tokens are attended to like others (the published code does so), but ask nothing.
    """
    # Cached tensors may meet training later, so they must not become inference tensors.
    with torch.inference_mode(False):
        tokens = math.prod(size)
        slots, bands = _windows(size, window, shift)
        alike: dict[tuple[Any, ...], list[int]] = {}
        for index, (real, band) in enumerate(zip((slots < tokens).tolist(), bands.tolist(), strict=True)):
            least = min(band)
            alike.setdefault((*real, *(rank - least for rank in band)), []).append(index)
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
        return WindowLayout(tuple(kinds), torch.cat(gather).to(device), scatter.to(device), padded, slots.shape[1])


def _windows(
    size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]
) -> tuple[Int[Tensor, "W n"], Int[Tensor, "W n"]]:
    """The token in every slot of every window (their number for padding), and the band of the rolled map it is in."""
    axes, total = range(len(size)), math.prod(size)
    counts = [-(-length // side) for length, side in zip(size, window, strict=True)]
    slots = torch.full([count * side for count, side in zip(counts, window, strict=True)], total)
    slots[tuple(slice(length) for length in size)] = torch.arange(total).view(size)
    bands = torch.zeros_like(slots)
    slots = slots.roll(tuple(-move for move in shift), tuple(axes))
    for axis, (side, move) in enumerate(zip(window, shift, strict=True)):
        for number, stretch in enumerate((slice(-side, -move), slice(-move, None)) if move else (), start=1):
            bands[(slice(None),) * axis + (stretch,)] += 3 ** (len(size) - 1 - axis) * number
    split = [number for pair in zip(counts, window, strict=True) for number in pair]
    order = [2 * axis for axis in axes] + [2 * axis + 1 for axis in axes]
    slots, bands = (grid.view(split).permute(order).reshape(math.prod(counts), -1) for grid in (slots, bands))
    return slots, bands


class WindowAttention(nn.Module):
    """Multi-head attention with a learned bias for every offset between two tokens of a window."""

    def __init__(self, width: int, heads: int, window: tuple[int, ...], qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        offsets = math.prod(2 * side - 1 for side in window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def position_bias(self) -> Float[Tensor, "heads n n"]:
        """The bias of every pair: row is the query's slot, column the key's, both in reading order of the window."""
        axes = tuple(range(1, len(self.window) + 1))
        table = self.relative_position_bias_table.view(*(2 * side - 1 for side in self.window), self.heads)
        # bias[i, j] = table[i - j + window - 1] along each axis: with the table reversed, row i is the stretch of
        # `window` values that begins at window - 1 - i.
        rows = table.movedim(-1, 0).flip(axes)
        for axis, side in zip(axes, self.window, strict=True):
            rows = rows.unfold(axis, side, 1)
        slots = math.prod(self.window)
        return rows.flip(axes).reshape(self.heads, slots, slots)

    def forward(self, tokens: Float[Tensor, "B T C"], layout: WindowLayout) -> Float[Tensor, "B T C"]:
        """Attend inside the windows of `layout`.

        Where these are smaller than the window that the biases are for, pairs have those of its first slots, as in
        Video Swin's published code: of fewer frames the right ones, of fewer rows or columns others.
        """
        pictures, _, width = tokens.shape
        slots, head_width = layout.slots, width // self.heads
        if layout.padded:
            tokens = F.pad(tokens, (0, 0, 0, 1))
        rows = _select(self.qkv(tokens).view(pictures, -1, head_width), layout.gather)
        # In low precision the bias lifts the scores to float32, where the softmax wants them.
        bias = self.position_bias()[:, :slots, :slots].float()
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
