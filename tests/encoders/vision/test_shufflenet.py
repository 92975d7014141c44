"""ShuffleNetV2 with its pyramid: wiring against slow references, sizes, and the reading of published tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.vision.nanodet import GhostBlock, ShuffleBlock, ShuffleNet, ShuffleNetConfig
from refseg.encoders.vision.nanodet_weights import encoder_from_nanodet
from refseg.errors import CheckpointError, ConfigError

GOLDEN = [0.2461496790425688, 0.2731034268991287, 0.5462490430697691, 0.539328306578411]
"""Mean absolute value of the maps of strides 4, 8, 16 and 32, computed once with this code in double precision."""
SMALL = ShuffleNetConfig(stem_width=4, widths=(8, 12, 16), depths=(2, 3, 2), pyramid=8, head=5)


def conv(maps: Tensor, layer: nn.Conv2d, act: bool) -> Tensor:
    after = F.conv2d(maps, layer.weight, layer.bias, layer.stride, layer.padding, 1, layer.groups)
    return torch.where(after > 0, after, 0.1 * after) if act else after


@torch.no_grad()
def test_a_block_keeps_half_of_the_channels_and_shuffles_the_halves() -> None:
    block, maps = ShuffleBlock(8, 8, 1), torch.randn(2, 8, 5, 6)
    found = block(maps.clone())
    first, second = maps[:, :4], maps[:, 4:]
    worked = conv(second, block.main[0].conv, True)
    worked = conv(conv(worked, block.main[1].conv, False), block.main[2].conv, True)
    for channel in range(4):
        torch.testing.assert_close(found[:, 2 * channel], first[:, channel])
        torch.testing.assert_close(found[:, 2 * channel + 1], worked[:, channel])


@torch.no_grad()
def test_a_ghost_block_makes_half_of_its_channels_from_the_other_half() -> None:
    block, maps = GhostBlock(6, 4), torch.randn(1, 6, 7, 5)
    primary = conv(maps, block.first[0].conv, True)
    hidden = torch.cat([primary, conv(primary, block.first[1].conv, True)], dim=1)
    primary = conv(hidden, block.second[0].conv, False)
    main = torch.cat([primary, conv(primary, block.second[1].conv, False)], dim=1)
    short = conv(conv(maps, block.short[0].conv, False), block.short[1].conv, False)
    torch.testing.assert_close(block(maps), main + short)


@pytest.mark.parametrize("size", [(64, 96), (65, 83), (32, 32)])
@pytest.mark.parametrize("changes", [{}, {"head": None}, {"head": None, "pyramid": None}])
def test_maps_have_the_promised_sizes_and_channels(size: tuple[int, int], changes: dict[str, None]) -> None:
    net = ShuffleNet(ShuffleNetConfig(**{**SMALL.__dict__, **changes}))
    maps = net(torch.randn(2, 3, *size))
    assert list(maps) == [4, 8, 16, 32]
    for stride, each in maps.items():
        assert each.shape == (2, net.channels[stride], -(-size[0] // stride), -(-size[1] // stride))
    sum(each.square().mean() for each in maps.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def published(net: ShuffleNet) -> dict[str, Tensor]:
    """The tensors as the published detector has them: recorded as its convolutions run, coarsest level first."""
    order: list[nn.Conv2d] = []
    handles = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert net.pyramid is not None
    assert net.heads is not None
    with torch.no_grad():
        # On an accelerator's path 1x1 convolutions are modules too, so that hooks see them.
        images = torch.randn(1, 3, 64, 64)
        maps, coarse = F.max_pool2d(net.stem(images), 3, 2, 1), []
        for stage in net.stages:
            for block in stage:
                if block.short is None:
                    kept, worked = maps.chunk(2, dim=1)
                    maps = torch.cat([kept, run(block.main, worked)], dim=1)
                else:
                    # The published graph has: short depthwise, main 1x1, main depthwise, short 1x1, main 1x1.
                    short, main = call(block.short[0], maps), call(block.main[0], maps)
                    main = call(block.main[1], main)
                    short, main = call(block.short[1], short), call(block.main[2], main)
                    maps = torch.cat([short, main], dim=1)
                maps = maps.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
            coarse.append(maps)
        pyramid = net.pyramid
        mixed = [call(pyramid.reduce[2], coarse[2])]
        for number, level in enumerate((1, 0)):
            finer = call(pyramid.reduce[level], coarse[level])
            above = F.interpolate(mixed[0], size=finer.shape[-2:], mode="bilinear", align_corners=False)
            mixed.insert(0, ghost(pyramid.down[number], torch.cat([above, finer], dim=1)))
        outputs = [mixed[0]]
        for number in range(2):
            strided = run(pyramid.strided[number], outputs[-1])
            outputs.append(ghost(pyramid.up[number], torch.cat([strided, mixed[number + 1]], dim=1)))
        extra = [nn.Conv2d(1, 1, 1) for _ in range(4)]
        order += extra
        halves = [call(head.steps[1], call(head.steps[0], each)) for head, each in zip(net.heads, outputs, strict=True)]
        order += [nn.Conv2d(1, 1, 1) for _ in range(5)]
        for level in (2, 1, 0):
            head = net.heads[level]
            call(head.output, call(head.steps[3], call(head.steps[2], halves[level])))
    for handle in handles:
        handle.remove()
    state = {}
    for number, layer in enumerate(order):
        assert layer.bias is not None
        weight = layer.weight.flip(1) if number == 0 else layer.weight
        state |= {f"{number:03d}.conv.weight": weight.detach(), f"{number:03d}.conv.bias": layer.bias.detach()}
    return state


def call(layer: nn.Module, maps: Tensor) -> Tensor:
    """One step of the network with its convolution called as a module."""
    after = layer.conv(maps.contiguous())  # type: ignore[operator]
    return F.leaky_relu(after, 0.1) if layer.activation else after


def run(layers: nn.Sequential, maps: Tensor) -> Tensor:
    for layer in layers:
        maps = call(layer, maps)
    return maps


def ghost(block: GhostBlock, maps: Tensor) -> Tensor:
    after = maps
    for pair in (block.first, block.second):
        primary = call(pair[0], after)
        after = torch.cat([primary, call(pair[1], primary)], dim=1)
    return after + run(block.short, maps)


@torch.no_grad()
def test_published_tensors_come_back_in_their_order_of_execution() -> None:
    net = ShuffleNet(SMALL)
    read = encoder_from_nanodet(published(net), SMALL)
    assert read.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(read[name], value)


def test_other_tensors_are_refused_by_name() -> None:
    state = published(ShuffleNet(SMALL))
    with pytest.raises(CheckpointError, match=r"unexplained: 999\.conv\.weight"):
        encoder_from_nanodet(state | {"999.conv.weight": torch.zeros(1)}, SMALL)
    del state["003.conv.bias"]
    with pytest.raises(CheckpointError, match=r"missing: 003\.conv\.bias"):
        encoder_from_nanodet(state, SMALL)
    with pytest.raises(CheckpointError, match="pyramid and head"):
        encoder_from_nanodet(state, ShuffleNetConfig(head=None))


@torch.no_grad()
def test_a_net_filled_by_rule_gives_the_recorded_maps() -> None:
    net = ShuffleNet(SMALL).double()
    for name, parameter in sorted(net.named_parameters()):
        steps = torch.arange(parameter.numel(), dtype=torch.float64)
        parameter.copy_((0.3 * torch.sin(steps * 1.7 + len(name))).view_as(parameter))
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = torch.stack([torch.sin(rows / 7), torch.cos(columns / 5), torch.sin((rows + columns) / 9)])[None].double()
    means = [float(each.abs().mean()) for each in net(images).values()]
    assert means == pytest.approx(GOLDEN, rel=1e-9)


def test_the_defaults_are_nanodets() -> None:
    assert sum(parameter.numel() for parameter in ShuffleNet(ShuffleNetConfig()).parameters()) == 1_128_250


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (7, 8, 8)}, r"widths\[0\]=7: .*multiple of 2"),
        ({"depths": (0, 1, 1)}, r"depths\[0\]=0: 1 or more"),
        ({"pyramid": 7}, "pyramid=7"),
        ({"pyramid": None, "head": 3}, "head=3"),
    ],
)
def test_bad_sizes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShuffleNetConfig(**{**SMALL.__dict__, **changes})
