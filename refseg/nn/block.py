"""The transformer block of ViT (Dosovitskiy et al., ICLR 2021), which ReSTR's fusion is made of too.

tokens -> LN -> attention -> + -> LN -> two linear layers with GELU -> +
     `--------------------'  `--------------------------------------'
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.nn.attention import attend

__all__ = ["Block", "Mlp", "SelfAttention", "Watched", "drop_path_rates", "skip_rows"]


class Watched(NamedTuple):
    """A block's tokens, and how much the last of them looked at each token, one row a head (sums to 1)."""

    tokens: Float[Tensor, "B N C"]
    last_row: Float[Tensor, "B heads N"]


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"heads={heads} does not divide width={width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B N C"], mask: Bool[Tensor, "B _ N"] | None = None) -> Watched:
        """What each token gathers from those where `mask` is True, and whom the last token looked at."""
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        looked = None if mask is None else mask[:, None]
        gathered = attend(queries, keys, values, looked)
        with torch.no_grad():
            scores = queries[:, :, -1:] @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
            if looked is not None:
                scores = scores.masked_fill(~looked[:, :, -1:], float("-inf"))
            last_row = scores.float().softmax(dim=-1)[:, :, 0]
        return Watched(self.proj(gathered.transpose(1, 2).flatten(2)), last_row)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Every token on its own."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention, then the MLP; both pre-normalised and residual (ReSTR, equations 1 to 5)."""

    def __init__(self, width: int, heads: int, hidden: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = Mlp(width, hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self, tokens: Float[Tensor, "B N C"], mask: Bool[Tensor, "B _ N"] | None = None, drop_path: float = 0.0
    ) -> Watched:
        """One block. `mask` is True where a token (middle axis; of length 1 for all alike) may look at another one;
        `drop_path` is the probability of skipping each half for a whole row of the batch while training."""
        gathered, last_row = self.attn(self.norm1(tokens), mask)
        tokens = tokens + skip_rows(gathered, drop_path, self.training)
        return Watched(tokens + skip_rows(self.mlp(self.norm2(tokens)), drop_path, self.training), last_row)


def skip_rows(branch: Float[Tensor, "B N C"], rate: float, training: bool) -> Float[Tensor, "B N C"]:
    """Stochastic depth (Huang et al., ECCV 2016): in training, each row of the batch is zeroed with probability `rate`,
    and the others are scaled, so that the mean stays."""
    if not training or rate == 0:
        return branch
    keep = 1 - rate
    return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep).to(branch.dtype) / keep


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Probabilities that rise linearly from 0 at the first block to `last` at the last one (one block alone: 0)."""
    return [last * index / max(blocks - 1, 1) for index in range(blocks)]
