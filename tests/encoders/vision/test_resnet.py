"""ResNet against transformers' implementation with the same random weights; its kinds of stem, block and norm."""

import pytest
import torch
from torch import nn

from refseg.encoders.pretrained import load_backbones
from refseg.encoders.vision.resnet import RESNET50, RESNET101, ResNet, ResNetConfig, from_torchvision
from refseg.errors import CheckpointError, ConfigError
from refseg.state_dicts import write_tensors

SMALL = {"block": "basic", "widths": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "stem_width": 16, "norm_groups": 4}


def torchvision_names(prefix: str) -> str:
    """The name in a torchvision file for a name of transformers' ResNet."""
    words = prefix.split(".")
    part = {"convolution": "conv", "normalization": "bn"}
    if words[0] == "embedder":
        return f"{part[words[2]]}1.{words[3]}"
    stage, block = int(words[2]) + 1, words[4]
    if words[5] == "shortcut":
        return f"layer{stage}.{block}.downsample.{'0' if words[6] == 'convolution' else '1'}.{words[7]}"
    return f"layer{stage}.{block}.{part[words[7]]}{int(words[6]) + 1}.{words[8]}"


@pytest.mark.parametrize(("block", "norm"), [("bottleneck", "frozen"), ("basic", "batch")])
@pytest.mark.parametrize("size", [(64, 96), (65, 83)])
def test_same_maps_as_transformers(block, norm, size):
    from transformers import ResNetBackbone
    from transformers import ResNetConfig as TheirConfig

    widths, depths = (16, 32, 48, 64), (2, 1, 2, 1)
    theirs = ResNetBackbone(
        TheirConfig(
            embedding_size=16,
            hidden_sizes=list(widths),
            depths=list(depths),
            layer_type=block,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    ).eval()
    for name, value in theirs.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5) if name.endswith(("var", "weight")) else value.normal_()
    state = {torchvision_names(name): value for name, value in theirs.state_dict().items()}
    state["fc.weight"] = torch.zeros(3, 64)
    model = ResNet(ResNetConfig(block=block, widths=widths, depths=depths, stem_width=16, norm=norm)).eval()
    missing, unexpected = model.load_state_dict(from_torchvision(state), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps, expected = model(images), theirs(images).feature_maps
    assert list(maps) == [4, 8, 16, 32]
    for ours, wanted in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("stem", ["conv7", "conv3", "patch"])
@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_every_kind_builds_and_learns(stem, norm):
    model = ResNet(ResNetConfig(**SMALL, stem=stem, norm=norm))
    maps = model(torch.randn(2, 3, 47, 65))
    assert {stride: tuple(level.shape[1:]) for stride, level in maps.items()} == {
        4: (16, 12, 17),
        8: (16, 6, 9),
        16: (32, 3, 5),
        32: (32, 2, 3),
    }
    sum(level.square().sum() for level in maps.values()).backward()
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())
    has_parameters = any(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in model.modules())
    assert has_parameters == (norm != "frozen")


def test_published_sizes():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in ResNet(config).parameters()) for config in (RESNET50, RESNET101)]
    # torchvision's 25,557,032 and 44,549,160 without classifier (2,049,000) and affine norms (53,120 and 105,344).
    assert counts == [25_557_032 - 2_049_000 - 53_120, 44_549_160 - 2_049_000 - 105_344]


def test_errors_name_the_field():
    for fields in ({"widths": (16, 16, 32, 0)}, {"depths": (0, 1, 1, 1)}, {"norm_groups": 5, "norm": "group"}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            ResNetConfig(**SMALL | fields)
    with pytest.raises(ConfigError, match="divisible by 4"):
        ResNetConfig(widths=(18, 32, 64, 128))
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight"):
        from_torchvision({"layers.0.weight": torch.zeros(1)})


def test_weights_of_stages_that_a_model_leaves_out_are_left_out(tmp_path):
    config = ResNetConfig(**SMALL, norm="group")
    whole, short = ResNet(config), nn.Module()
    short.vision = ResNet(config)
    short.vision.stages = short.vision.stages[:3]
    write_tensors(tmp_path / "whole.safetensors", whole.state_dict())
    load_backbones(short, vision=str(tmp_path / "whole.safetensors"))
    for name, value in short.vision.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    del short.vision.stem
    with pytest.raises(CheckpointError, match=r"without a place: stem"):
        load_backbones(short, vision=str(tmp_path / "whole.safetensors"))
