"""Folding a normalisation into the convolution changes the speed, not the numbers; masks of kernels against a loop."""

import pytest
import torch

from refseg.errors import ConfigError
from refseg.nn.conv import LARGE, ConvNorm, FrozenBatchNorm, LargeConv, masks_of
from tests.support.contract import assert_near


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


@pytest.mark.parametrize("size", [(60, 60), (61, 73)])
def test_gradients_of_a_large_convolution(size, monkeypatch):
    torch.manual_seed(0)
    layer = ConvNorm(6, 8, 3, "group", groups=4).train()
    maps = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    used = []
    monkeypatch.setattr(LargeConv, "apply", lambda *given, apply=LargeConv.apply: used.append(1) or apply(*given))
    found = layer(maps)
    weights = torch.randn(found.shape)
    gradients = torch.autograd.grad((found * weights).sum(), (maps, layer.conv.weight))
    assert used
    # The same in 64 bits, by PyTorch's own convolution.
    exact = ConvNorm(6, 8, 3, "group", groups=4).train().double()
    exact.load_state_dict(layer.state_dict())
    wide = maps.detach().double().requires_grad_()
    expected = exact(wide)
    wanted = torch.autograd.grad((expected * weights.double()).sum(), (wide, exact.conv.weight))
    assert len(used) == 1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=float(1e-4 * other.abs().max()))


def test_small_maps_frozen_weights_and_answers_take_the_usual_convolution(monkeypatch):
    monkeypatch.setattr(LargeConv, "apply", None)
    layer = ConvNorm(4, 4, 3, "group", groups=2).train()
    side = int(LARGE**0.5)
    large = torch.randn(1, 4, side, side).contiguous(memory_format=torch.channels_last)
    layer(large[..., :-1].contiguous(memory_format=torch.channels_last))
    layer(large.contiguous())
    with torch.no_grad():
        layer(large)
    with torch.autocast("cpu", torch.bfloat16):
        layer(large)
    layer.requires_grad_(False)
    layer(large)


@pytest.mark.parametrize("picture", [None, [0, 0, 0], [1, 0, 1], [2, 0, 2]])
def test_masks_of_equals_a_loop(picture: list[int] | None) -> None:
    features = torch.randn(3, 4, 2, 5)
    kernels = torch.randn(3, 2, 4)
    found = masks_of(kernels, features, None if picture is None else torch.tensor(picture))
    for sentence in range(3):
        own = sentence if picture is None else picture[sentence]
        for kernel in range(2):
            expected = (kernels[sentence, kernel][:, None, None] * features[own]).sum(dim=0)
            assert_near(found[sentence, kernel], expected)
