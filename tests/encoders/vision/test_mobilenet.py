"""MobileNetV2: blocks against a slow reference, sizes, and the reading of published tensors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.vision.mobilenet import InvertedBlock, MobileNet, MobileNetConfig, from_execution_order
from refseg.errors import CheckpointError, ConfigError

SMALL = MobileNetConfig(
    stem_width=8,
    expansions=(1, 2, 3, 2, 2),
    widths=(4, 8, 8, 12, 16),
    depths=(1, 2, 1, 2, 1),
    strides=(1, 2, 2, 2, 2),
)


@pytest.mark.parametrize(("outputs", "stride", "expansion"), [(6, 1, 3), (6, 2, 3), (8, 1, 2), (6, 1, 1)])
@torch.no_grad()
def test_a_block_is_wider_inside_and_adds_its_input_where_it_can(outputs: int, stride: int, expansion: int) -> None:
    block, maps = InvertedBlock(6, outputs, expansion, stride), torch.randn(2, 6, 7, 8) * 3
    inner = maps
    if block.wider is not None:
        inner = F.conv2d(maps, block.wider.conv.weight, block.wider.conv.bias).clamp(0, 6)
    layer = block.depthwise.conv
    inner = F.conv2d(inner, layer.weight, layer.bias, stride, 1, 1, inner.shape[1]).clamp(0, 6)
    after = F.conv2d(inner, block.narrower.conv.weight, block.narrower.conv.bias)
    torch.testing.assert_close(block(maps), maps + after if (stride, outputs) == (1, 6) else after)


@pytest.mark.parametrize("size", [(64, 96), (65, 83)])
def test_maps_have_the_promised_sizes_and_channels(size: tuple[int, int]) -> None:
    net = MobileNet(SMALL)
    maps = net(torch.randn(2, 3, *size))
    assert net.channels == {4: 8, 8: 8, 16: 12, 32: 16}
    for stride, each in maps.items():
        assert each.shape == (2, net.channels[stride], -(-size[0] // stride), -(-size[1] // stride))


def published(net: MobileNet) -> dict[str, torch.Tensor]:
    """The state under numbers in order of execution: stem, then every block's convolutions."""
    names = {"wider": "expand", "depthwise": "dw", "narrower": "project"}
    steps = [("stem", net.stem)]
    blocks = [block for group in net.groups for block in group]
    for number, block in enumerate(blocks):
        for ours, theirs in names.items():
            part = getattr(block, ours)
            if part is not None:
                steps.append((f"b{number}_{theirs}", part))
    state = {}
    for number, (name, step) in enumerate(steps):
        state[f"{number:03d}.{name}.weight"] = step.conv.weight.detach()
        state[f"{number:03d}.{name}.bias"] = step.conv.bias.detach()
    return state


def test_published_tensors_come_back() -> None:
    net = MobileNet(SMALL)
    state = published(net) | {"099.head.weight": torch.zeros(1), "099.head.bias": torch.zeros(1)}
    read = from_execution_order(state, SMALL)
    assert read.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(read[name], value)


def test_other_tensors_are_refused_by_name() -> None:
    state = published(MobileNet(SMALL))
    with pytest.raises(CheckpointError, match=r"unexplained: conv1\.weight"):
        from_execution_order(state | {"conv1.weight": torch.zeros(1)}, SMALL)
    with pytest.raises(CheckpointError, match="unexplained: b99_dw"):
        from_execution_order(state | {"400.b99_dw.weight": torch.zeros(1)}, SMALL)
    del state["000.stem.bias"]
    with pytest.raises(CheckpointError, match=r"missing: stem\.bias"):
        from_execution_order(state, SMALL)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="as many positive numbers"):
        MobileNetConfig(depths=(1, 2))
    with pytest.raises(ConfigError, match="four times 2"):
        MobileNetConfig(strides=(1, 2, 2, 1, 1, 2, 1))


def test_the_defaults_are_the_papers() -> None:
    net = MobileNet(MobileNetConfig())
    # 2,223,872 with the last 1x1 convolution of 320 x 1280 and with scale and shift of every normalisation; folded,
    # scale and shift are one bias a channel.
    assert net.channels == {4: 24, 8: 32, 16: 96, 32: 320}
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_795_936
