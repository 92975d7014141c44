"""DETR's layers against PyTorch's own, and its positions against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from refseg.errors import ConfigError, RefsegError
from refseg.nn.attention import Attention
from refseg.nn.detr import DetrDecoderLayer, DetrEncoderLayer
from refseg.nn.positions import PixelPositions


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    assert theirs.in_proj_bias is not None
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


@torch.no_grad()
def test_encoder_layer_is_torchs_without_positions() -> None:
    ours = DetrEncoderLayer(8, 2, 12).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    copy_attention(ours.attention, theirs.self_attn)
    for one, other in ((ours.feed_forward.inner, theirs.linear1), (ours.feed_forward.outer, theirs.linear2)):
        other.load_state_dict(one.state_dict())
    tokens, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, True, False]])
    expected = theirs(tokens, src_key_padding_mask=~mask)
    found = ours(tokens, torch.zeros_like(tokens), mask)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)
    assert not torch.allclose(ours(tokens, torch.randn_like(tokens), mask)[mask], expected[mask], atol=1e-3)


@torch.no_grad()
def test_decoder_layer_is_torchs_without_positions() -> None:
    ours = DetrDecoderLayer(8, 2, 12).eval()
    theirs = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True).eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    for one, other in ((ours.feed_forward.inner, theirs.linear1), (ours.feed_forward.outer, theirs.linear2)):
        other.load_state_dict(one.state_dict())
    queries, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    asked = torch.tensor([[True, True, False], [True, True, True]])
    real = torch.tensor([[True] * 5, [True, True, False, True, False]])
    still = torch.zeros_like(queries), torch.zeros_like(memory)
    expected = theirs(queries, memory, tgt_key_padding_mask=~asked, memory_key_padding_mask=~real)
    assert torch.allclose(ours(queries, still[0], asked, memory, still[1], real), expected, atol=1e-5)


def test_sine_positions_reach_over_the_real_pixels() -> None:
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[0, :2, :3] = True
    mask[1] = True
    found = PixelPositions(8)(mask)
    assert found.shape == (2, 8, 3, 4)
    for picture, (rows, columns) in enumerate(((2, 3), (3, 4))):
        for row in range(rows):
            for column in range(columns):
                for start, place, length in ((0, row, rows), (4, column, columns)):
                    angle = (place + 0.5) / (length + 1e-6) * 2 * math.pi
                    expected = [
                        wave(angle / 10000 ** (2 * pair / 4)) for pair in range(2) for wave in (math.sin, math.cos)
                    ]
                    values = found[picture, start : start + 4, row, column].tolist()
                    assert values == pytest.approx(expected, abs=1e-5)


def test_learned_positions_are_of_rows_and_columns() -> None:
    positions = PixelPositions(8, "learned")
    found = positions(torch.ones(2, 3, 4, dtype=torch.bool))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0, :4, 1, 0], found[0, :4, 1, 3])
    assert torch.equal(found[0, 4:, 0, 2], found[0, 4:, 2, 2])
    assert not torch.equal(found[0, :, 1, 0], found[0, :, 0, 1])
    with pytest.raises(RefsegError, match="larger than the 50"):
        positions(torch.ones(1, 51, 4, dtype=torch.bool))
    with pytest.raises(ConfigError, match="multiple of 4"):
        PixelPositions(6)
