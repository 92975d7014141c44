"""Folding a normalisation into the convolution changes the speed, not the numbers."""

import pytest
import torch

from refseg.errors import ConfigError
from refseg.nn.conv import ConvNorm, FrozenBatchNorm


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_folded_equals_one_after_the_other(norm):
    layer = ConvNorm(3, 8, 3, norm, stride=2).eval()
    for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(layer.norm.running_var, 0.5, 2.0)
    maps = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        expected = layer.norm(layer.conv(maps)).relu()
        torch.testing.assert_close(layer(maps), expected, rtol=1e-5, atol=1e-5)


def test_frozen_equals_batch_norm_with_the_same_statistics():
    frozen, batch = FrozenBatchNorm(5), torch.nn.BatchNorm2d(5).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = torch.rand(5) + 0.5
        getattr(frozen, name).copy_(value)
        getattr(batch, name).data.copy_(value)
    maps = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(frozen(maps), batch(maps))
    assert not list(frozen.parameters())


def test_batch_statistics_move_in_training():
    layer = ConvNorm(3, 8, 1, "batch").train()
    layer(torch.randn(4, 3, 5, 5) + 3)
    assert bool(layer.norm.running_mean.any())


def test_groups_must_divide():
    with pytest.raises(ConfigError, match="groups=3"):
        ConvNorm(3, 8, 1, "group", groups=3)
