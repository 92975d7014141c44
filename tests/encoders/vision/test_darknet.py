"""DarkNet-53: sizes and taps of the published code, what freezing keeps, and the maps against a plain loop."""

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.build import build_vision
from refseg.encoders.vision.darknet import DarkNet, DarkNetConfig
from refseg.errors import ConfigError

SMALL = DarkNetConfig(widths=(4, 4, 8, 8, 12, 16), depths=(1, 1, 2, 1, 1), freeze="none")


def test_published_sizes():
    with torch.device("meta"):
        model = build_vision(DarkNetConfig())
    numbers = {name: value.numel() for name, value in model.state_dict().items() if "num_batches" not in name}
    assert sum(numbers.values()) == 56_367_712
    assert len(model.convolutions()) == 58
    assert model.channels == {8: 256, 16: 512, 32: 1024}


@pytest.mark.parametrize("size", [(64, 96), (61, 75), (32, 32)])
def test_strides_round_up(size):
    maps = DarkNet(SMALL)(torch.rand(2, 3, *size))
    assert {stride: tuple(level.shape) for stride, level in maps.items()} == {
        stride: (2, width, -(-size[0] // stride), -(-size[1] // stride))
        for stride, width in ((8, 8), (16, 12), (32, 16))
    }


@torch.no_grad()
def test_same_as_a_plain_loop():
    """Table 1 of YOLOv3, layer by layer, with Keras's epsilon and its padding at the top and the left."""
    model = DarkNet(SMALL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    model.eval()
    convolutions = iter(model.convolutions())

    def apply(maps, stride=1):
        conv = next(convolutions)
        kernel, norm = conv.conv.weight, conv.norm
        if stride == 2:
            maps = F.conv2d(F.pad(maps, (1, 0, 1, 0)), kernel, stride=2)
        else:
            maps = F.conv2d(maps, kernel, padding=kernel.shape[-1] // 2)
        maps = (maps - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 0.001).sqrt()
        maps = maps * norm.weight[:, None, None] + norm.bias[:, None, None]
        return torch.where(maps > 0, maps, 0.1 * maps)

    images = torch.rand(2, 3, 64, 96)
    maps, expected = apply(images), []
    for depth in SMALL.depths:
        maps = apply(maps, stride=2)
        for _ in range(depth):
            maps = maps + apply(apply(maps))
        expected.append(maps)
    for _ in range(6):
        maps = apply(maps)
    assert next(convolutions, None) is None
    for found, wanted in zip(model(images).values(), (*expected[2:4], maps), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(("freeze", "trained"), [("none", 18 + 12), ("all_but_last2", 2), ("all", 0)])
def test_freezing_keeps_weights_and_statistics(freeze, trained):
    model = DarkNet(DarkNetConfig(SMALL.widths, SMALL.depths, freeze=freeze))
    model.eval().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = model(torch.rand(2, 3, 64, 64))
    if trained:
        sum(level.square().sum() for level in maps.values()).backward()
        torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1).step()
    moved = {
        name.rsplit(".", 2)[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    every = [name for name, module in model.named_modules() if module in model.convolutions()]
    wanted = {"none": every, "all_but_last2": every[-2:], "all": []}[freeze]
    assert moved == set(wanted)
    assert len(wanted) == {"none": len(every)}.get(freeze, trained)


def test_without_the_head():
    model = DarkNet(DarkNetConfig(SMALL.widths, SMALL.depths, head=False, freeze="all_but_last2"))
    assert model.head is None
    assert model.frozen() == model.convolutions()[:-2]
    assert model.eval()(torch.rand(1, 3, 32, 32))[32].shape == (1, 16, 1, 1)


def test_errors_name_the_field():
    for fields in ({"widths": (4, 4, 8, 8, 12, 15)}, {"depths": (1, -1, 2, 1, 1)}, {"eps": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            DarkNetConfig(**fields)


def test_training_does_not_begin_with_frozen_random_weights():
    from refseg.encoders.text.tokenizer import WordTokenizer
    from refseg.training.recipe import parse_recipe
    from refseg.training.setup import load_pretrained

    model = torch.nn.Module()
    model.vision = DarkNet(DarkNetConfig(SMALL.widths, SMALL.depths, freeze="all"))
    with pytest.raises(ConfigError, match=r"model\.vision\.freeze.*pretrained\.vision"):
        load_pretrained(model, parse_recipe({}), WordTokenizer([]))
    model.vision = DarkNet(SMALL)
    assert load_pretrained(model, parse_recipe({}), WordTokenizer([])) == ""
