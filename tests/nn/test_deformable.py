"""Deformable sampling against a loop over single pixels, written from Deformable DETR's equation 3."""

import math

import pytest
import torch

from refseg.errors import ConfigError
from refseg.nn.deformable import DeformableAttention, _sample_grid, _sample_rows, own_places, sample_maps

SIZES = ((2, 3), (4, 5))


def looped(values, points, weights):
    batch, _, heads, width = values.shape
    result = values.new_zeros(batch, points.shape[1], heads, width)
    start = 0
    for level, (rows, columns) in enumerate(SIZES):
        for b, q, head, p in torch.cartesian_prod(*(torch.arange(n) for n in (*points.shape[:3], points.shape[4]))):
            x, y = points[b, q, head, level, p].tolist()
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < rows and 0 <= column < columns:
                        share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[b, q, head, level, p]
                        result[b, q, head] += share * values[b, start + row * columns + column, head]
        start += rows * columns
    return result.flatten(2)


@pytest.fixture
def case():
    values = torch.randn(2, 26, 2, 3, requires_grad=True)
    points = torch.rand(2, 5, 2, 2, 4, 2) * 9 - 2
    # The borders themselves, far away, and exactly on pixels.
    edges = torch.tensor([[-1.0, 1.0], [2.0, 1.0], [3.0, 2.0], [1e6, -1e6]])
    points[0, 0, 0] = edges
    points[1, 4, 1, 1] = torch.tensor([[4.0, 3.0], [4.999, 3.999], [-0.5, -0.999], [0.0, 0.0]])
    weights = torch.rand(2, 5, 2, 2, 4, requires_grad=True)
    return values, points.requires_grad_(), weights


@pytest.mark.parametrize("sample", [_sample_rows, _sample_grid])
def test_equals_the_loop(case, sample):
    values, points, weights = case
    with torch.no_grad():
        expected = looped(*case)
        torch.testing.assert_close(sample(values, SIZES, points, weights), expected, rtol=1e-5, atol=1e-5)


def test_both_ways_have_the_same_gradient(case):
    values, points, weights = case
    towards = torch.randn(2, 5, 6)
    gradients = [
        torch.autograd.grad(sample(values, SIZES, points, weights), case, towards)
        for sample in (_sample_rows, _sample_grid)
    ]
    inside = torch.ones_like(points, dtype=torch.bool)
    inside[0, 0, 0] = False  # on a border the slope is one-sided, and each way may take its own side
    inside[1, 4, 1, 1] = False
    for index, (ours, theirs) in enumerate(zip(*gradients, strict=True)):
        mask = inside if index == 1 else torch.ones_like(ours, dtype=torch.bool)
        torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-4, atol=1e-5)


def test_a_pixel_sees_itself():
    values = torch.randn(1, 26, 1, 3)
    places = own_places(SIZES, 1, 1, values.device)[None]
    weights = torch.zeros(1, 26, 1, 2, 1)
    weights[:, :6, :, 0] = weights[:, 6:, :, 1] = 1
    torch.testing.assert_close(sample_maps(values, SIZES, places, weights), values.flatten(2), rtol=1e-5, atol=1e-5)


def test_starts_as_a_ring_with_even_weights():
    layer = DeformableAttention(width=16, heads=4, levels=2, points=3)
    ring = layer.sampling_offsets.bias.view(4, 2, 3, 2)
    assert torch.allclose(ring[:, 0, 0], torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), atol=1e-6)
    assert torch.allclose(ring[:, 1, 2], 3 * ring[:, 0, 0], atol=1e-6)
    pixels = torch.randn(2, 26, 16)
    assert layer(pixels, pixels, SIZES).shape == pixels.shape
    with pytest.raises(ConfigError, match="heads=3"):
        DeformableAttention(width=16, heads=3)


def test_low_precision_stays_near():
    layer = DeformableAttention(width=32, heads=4, levels=2, points=4).eval()
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.3)
    torch.nn.init.normal_(layer.attention_weights.weight, std=0.3)
    pixels = torch.randn(1, 26, 32)
    with torch.inference_mode():
        exact = layer(pixels, pixels, SIZES)
        with torch.autocast("cpu", torch.bfloat16):
            rough = layer(pixels, pixels, SIZES)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
