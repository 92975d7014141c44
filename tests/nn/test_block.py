"""The block of ViT and ReSTR against loops over heads and tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refseg.errors import ConfigError
from refseg.nn.block import Block, SelfAttention, drop_path_rates


def slow_attention(attention: SelfAttention, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """ReSTR, equations 3 to 5, one head and one token at a time: what is gathered (N, C), and whom each looked at."""
    count, width = tokens.shape
    size = width // attention.heads
    packed = tokens @ attention.qkv.weight.T + attention.qkv.bias
    queries, keys, values = packed[:, :width], packed[:, width : 2 * width], packed[:, 2 * width :]
    gathered, weights = torch.zeros(count, width), torch.zeros(attention.heads, count, count)
    for head in range(attention.heads):
        own = slice(head * size, (head + 1) * size)
        for token in range(count):
            scores = torch.tensor(
                [
                    float(queries[token, own] @ keys[other, own]) / math.sqrt(size)
                    if mask is None or mask[other]
                    else -math.inf
                    for other in range(count)
                ]
            )
            weights[head, token] = scores.softmax(dim=0)
            gathered[token, own] = weights[head, token] @ values[:, own]
    return gathered @ attention.proj.weight.T + attention.proj.bias, weights


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_equations_1_to_5(masked: bool) -> None:
    block = Block(8, 2, 12).eval()
    tokens = torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, False, True, True], [True, False, True, True, False]]) if masked else None
    found = block(tokens, None if mask is None else mask[:, None])
    for index in range(2):
        own = None if mask is None else mask[index]
        attended, weights = slow_attention(block.attn, block.norm1(tokens[index]), own)
        middle = attended + tokens[index]
        hidden = block.norm2(middle) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        expected = hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias + middle
        assert torch.allclose(found.tokens[index], expected, atol=1e-5)
        assert torch.allclose(found.last_row[index], weights[:, -1], atol=1e-5)


def test_drop_path_skips_halves_and_keeps_the_mean() -> None:
    block = Block(8, 2, 8).train()
    tokens = torch.randn(1, 3, 8).expand(4000, 3, 8)
    with torch.no_grad():
        through = block(tokens, drop_path=0.4).tokens
        kept = (through == tokens).flatten(1).all(dim=1).float().mean()
        assert abs(float(kept) - 0.16) < 0.03  # both halves skipped
        assert torch.equal(block(tokens, drop_path=0.0).tokens[:1], block.eval()(tokens[:1], drop_path=0.4).tokens)


def test_rates_rise_from_zero() -> None:
    assert drop_path_rates(0.1, 3) == pytest.approx([0.0, 0.05, 0.1])
    assert drop_path_rates(0.1, 1) == [0.0]


def test_heads_must_divide() -> None:
    with pytest.raises(ConfigError, match="heads=3"):
        Block(8, 3, 8)
