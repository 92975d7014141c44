"""Maps put together of parts: convolved part by part they give what the whole map gives, gradients included."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from refseg.nn.attention import Attention
from refseg.nn.conv import ConvNorm
from refseg.nn.parts import Part, conv_enlarged, conv_parts, joined, mean_of, rows_of
from tests.support.contract import assert_near

INDEX = torch.tensor([1, 0, 1, 1, 0])


def parts_of(last: bool = False) -> list[Part]:
    """An image's own map, a coarse map of which each place counts four times, and one of its own."""
    maps = [torch.randn(2, 3, 6, 8), torch.randn(5, 4, 3, 4), torch.randn(5, 2, 6, 8)]
    if last:
        maps = [each.contiguous(memory_format=torch.channels_last) for each in maps]
    own, coarse, plain = (each.requires_grad_() for each in maps)
    return [Part(own, INDEX), Part.of(coarse, (6, 8)), Part(plain)]


def whole_of(parts: list[Part]) -> torch.Tensor:
    """The map by definition."""
    own, coarse, plain = (part.maps for part in parts)
    return torch.cat([own[INDEX], F.interpolate(coarse, size=(6, 8), mode="nearest"), plain], dim=1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 3), (3, 4)])
def test_convolving_parts_is_convolving_the_map(kernel, dilation, last):
    torch.manual_seed(0)
    parts = parts_of(last)
    weight, bias = torch.randn(7, 9, kernel, kernel, requires_grad=True), torch.randn(7, requires_grad=True)
    pads, steps = [dilation * (kernel // 2)] * 2, [dilation] * 2
    wanted = F.conv2d(whole_of(parts), weight, bias, padding=pads, dilation=steps)
    found = conv_parts(parts, weight, bias, pads, steps)
    assert_near(found, wanted)
    direction = torch.randn_like(wanted)
    learnt = [part.maps for part in parts] + [weight, bias]
    for one, other in zip(
        torch.autograd.grad(found, learnt, direction), torch.autograd.grad(wanted, learnt, direction), strict=True
    ):
        assert_near(one, other)


def test_parts_join_to_the_map_and_have_its_mean():
    torch.manual_seed(0)
    parts = parts_of()
    assert torch.equal(joined(parts), whole_of(parts))
    assert_near(mean_of(parts), whole_of(parts).mean(dim=(2, 3), keepdim=True))


def test_a_map_that_does_not_double_evenly_is_enlarged_at_once():
    coarse = torch.randn(2, 3, 3, 3)
    part = Part.of(coarse, (5, 6))
    assert part.times == 1
    assert torch.equal(part.whole(), F.interpolate(coarse, size=(5, 6), mode="nearest"))


def test_rows_keep_the_memory_order():
    maps = torch.randn(2, 3, 4, 5)
    for each in (maps, maps.contiguous(memory_format=torch.channels_last)):
        found = rows_of(each, INDEX)
        assert torch.equal(found, maps[INDEX])
        assert found.stride(1) == each.stride(1)
    assert rows_of(maps, None) is maps


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_of_an_enlarged_map_is_a_transposed_one(bias):
    torch.manual_seed(0)
    conv, maps = nn.Conv2d(3, 5, 3, padding=1, bias=bias), torch.randn(2, 3, 4, 7)
    assert_near(conv_enlarged(conv, maps), conv(F.interpolate(maps, scale_factor=2, mode="nearest")))
    with pytest.raises(ValueError, match="3x3"):
        conv_enlarged(nn.Conv2d(3, 5, 5, padding=2), maps)


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_takes_parts_and_enlarges(norm, training):
    torch.manual_seed(0)
    block = ConvNorm(9, 8, 3, norm, groups=4).train(training)
    for buffer in block.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    parts = parts_of()
    state = {name: value.clone() for name, value in block.state_dict().items()}
    wanted = block(whole_of(parts))
    after = {name: value.clone() for name, value in block.state_dict().items()}
    block.load_state_dict(state)
    assert_near(block(parts), wanted)
    for name, value in block.state_dict().items():
        assert_near(value, after[name])
    block.load_state_dict(state)
    wanted = block(F.interpolate(whole_of(parts), scale_factor=2, mode="nearest"))
    block.load_state_dict(state)
    assert_near(block.enlarged(whole_of(parts)), wanted)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_cut_into_pieces_is_the_same(monkeypatch, masked):
    torch.manual_seed(0)
    layer, tokens = Attention(8, 2), torch.randn(5, 6, 8, requires_grad=True)
    mask = (torch.arange(6) < torch.arange(2, 7)[:, None])[:, None] if masked else None
    wanted = layer(tokens, tokens, tokens, mask)
    gradient = torch.autograd.grad(wanted.square().sum(), tokens)[0]
    monkeypatch.setattr("refseg.nn.attention.LARGEST_SCORES", 100)
    monkeypatch.setattr("refseg.nn.attention.LARGEST_PIECE", 150)
    found = layer(tokens, tokens, tokens, mask)
    assert torch.equal(found, wanted)
    assert_near(torch.autograd.grad(found.square().sum(), tokens)[0], gradient)
