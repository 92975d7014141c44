"""The pixel-word attention against its equations, one number at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refseg.nn.pixel_word import LanguageGate, LanguageStages, PixelWordAttention
from refseg.types import TextFeatures


def normalised(maps: list[list[float]]) -> list[list[float]]:
    """Instance normalisation of a (pixels, channels) table."""
    result = [list(row) for row in maps]
    for channel in range(len(maps[0])):
        column = [row[channel] for row in maps]
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        for row, value in zip(result, column, strict=True):
            row[channel] = (value - mean) / math.sqrt(variance + 1e-5)
    return result


def linear(layer: torch.nn.Linear, vector: list[float]) -> list[float]:
    return (layer.weight @ torch.tensor(vector) + layer.bias).tolist()


def gelu(value: float) -> float:
    return value * 0.5 * (1 + math.erf(value / math.sqrt(2)))


@torch.no_grad()
def test_attention_follows_the_equations() -> None:
    fusion = PixelWordAttention(channels=3, text_width=4)
    pixels, words = torch.randn(2, 5, 3), torch.randn(2, 4, 4)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    found = fusion(pixels, words, mask)
    for picture in range(2):
        own = pixels[picture].tolist()
        real = mask[picture].tolist()
        queries = normalised([linear(fusion.query, pixel) for pixel in own])
        keys = [linear(fusion.key, word) for word in words[picture].tolist()]
        values = [linear(fusion.value, word) for word in words[picture].tolist()]
        gathered = []
        for query in queries:
            scores = [
                sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(3) if real[i] else -math.inf
                for i, key in enumerate(keys)
            ]
            shares = [math.exp(score - max(scores)) for score in scores]
            total = sum(shares)
            mixed = [sum(s / total * v[c] for s, v in zip(shares, values, strict=True)) for c in range(3)]
            gathered.append(linear(fusion.gathered, mixed))
        gathered = normalised(gathered)
        for index, pixel in enumerate(own):
            product = [gelu(v) * g for v, g in zip(linear(fusion.vision, pixel), gathered[index], strict=True)]
            expected = [gelu(value) for value in linear(fusion.output, product)]
            assert torch.allclose(found[picture, index], torch.tensor(expected), atol=1e-4)


@torch.no_grad()
def test_gate_is_shut_at_the_start() -> None:
    gate = LanguageGate(3)
    fused = torch.randn(1, 2, 3)
    assert not gate(fused).any()
    gate.inner.weight.copy_(torch.eye(3))
    gate.outer.weight.copy_(2 * torch.eye(3))
    assert torch.allclose(gate(fused), torch.tanh(2 * fused.relu()) * fused)


@torch.no_grad()
def test_last_stage_goes_on_without_a_gate() -> None:
    stages = LanguageStages({4: 3, 8: 6}, text_width=4)
    stages.gates[0].inner.weight.fill_(0.3)
    stages.gates[0].outer.weight.fill_(0.3)
    text = TextFeatures(torch.randn(1, 2, 4), torch.zeros(1, 4), torch.tensor([[True, True]]))
    fuse = stages.after_stage(text)
    pixels: Tensor = torch.randn(1, 4, 3)
    fused, onward = fuse(0, pixels, (2, 2))
    assert torch.allclose(onward, pixels + stages.gates[0](fused))
    pixels = torch.randn(1, 4, 6)
    assert torch.equal(fuse(1, pixels, (2, 2))[1], pixels)


@torch.no_grad()
def test_map_of_one_pixel_is_finite() -> None:
    fusion = PixelWordAttention(channels=3, text_width=4).train()
    assert fusion(torch.randn(1, 1, 3), torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)).isfinite().all()
