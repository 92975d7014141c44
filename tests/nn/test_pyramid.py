"""Pixel decoders: sizes, gradients, and the deformable one against its parts written out."""

import pytest
import torch
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.nn.deformable import DeformableAttention
from refseg.nn.pyramid import DeformablePyramid, FeaturePyramid, sine_positions

CHANNELS = {4: 8, 8: 12, 16: 16, 32: 20}


def encoded(batch=2, height=24, width=20):
    return {
        stride: torch.randn(batch, channels, -(-height * 4 // stride), -(-width * 4 // stride))
        for stride, channels in CHANNELS.items()
    }


def build(kind, **fields):
    if kind == "plain":
        return FeaturePyramid(CHANNELS, width=16, groups=4, **fields)
    return DeformablePyramid(CHANNELS, width=16, groups=4, **{"layers": 2, "heads": 2, "points": 2, "ffn": 24} | fields)


@pytest.mark.parametrize("kind", ["plain", "deformable"])
def test_shapes_gradients_and_batches(kind):
    decoder, maps = build(kind), encoded()
    for module in decoder.modules():
        if isinstance(module, DeformableAttention):  # zero weights at the start hide the positions
            torch.nn.init.normal_(module.sampling_offsets.weight, std=0.1)
            torch.nn.init.normal_(module.attention_weights.weight, std=0.1)
    fine, levels = decoder(maps)
    assert fine.shape == (2, 16, 24, 20)
    assert [tuple(level.shape) for level in levels] == [(2, 16, 3, 3), (2, 16, 6, 5), (2, 16, 12, 10)]
    (fine.square().mean() + sum(level.pow(3).mean() for level in levels)).backward()
    assert all(bool(parameter.grad.any()) for parameter in decoder.parameters())
    alone = decoder({stride: level[1:] for stride, level in maps.items()})
    torch.testing.assert_close(alone.mask_features, fine[1:], rtol=1e-4, atol=1e-5)


def test_narrow_fine_step():
    decoder = build("plain", fine_width=8)
    assert decoder(encoded()).mask_features.shape[1] == 16
    assert sum(p.numel() for p in decoder.parameters()) < sum(p.numel() for p in build("plain").parameters())


@pytest.mark.parametrize("fields", [{"layers": 1}, {"points": 3}, {"heads": 4}, {"ffn": 8}])
def test_fields_change_parameters(fields):
    def shapes(decoder):
        return {name: value.shape for name, value in decoder.state_dict().items()}

    assert shapes(build("deformable", **fields)) != shapes(build("deformable"))


def test_impossible_sizes():
    with pytest.raises(ConfigError, match="groups=3"):
        FeaturePyramid(CHANNELS, width=16, groups=3)
    with pytest.raises(ConfigError, match="width=18"):
        DeformablePyramid(CHANNELS, width=18, groups=3, heads=2)


def test_sine_positions_by_hand():
    table = sine_positions(3, 5, 8, torch.device("cpu")).view(3, 5, 8)
    for row, column, index in [(0, 0, 0), (2, 4, 1), (1, 3, 2), (2, 0, 3)]:
        for axis, (place, length) in enumerate(((row, 3), (column, 5))):
            angle = torch.tensor((place + 1) / (length + 1e-6) * 2 * torch.pi / 10000 ** (2 * (index // 2) / 4))
            expected = angle.sin() if index % 2 == 0 else angle.cos()
            torch.testing.assert_close(table[row, column, axis * 4 + index], expected, rtol=1e-5, atol=1e-6)


def test_deformable_step_by_step():
    """The published order: projections, post-normalised layers, then one step of a pyramid at stride 4."""
    decoder, maps = build("deformable", layers=1).eval(), encoded(batch=1)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        fine, levels = decoder(maps)
        tokens, positions, sizes = [], [], []
        for index, stride in enumerate((32, 16, 8)):
            projected = decoder.input_proj[index](maps[stride])
            sizes.append(tuple(projected.shape[-2:]))
            tokens.append(projected.flatten(2).transpose(1, 2))
            sine = sine_positions(*sizes[-1], 16, projected.device)
            positions.append(sine + decoder.level_embed[index])
        pixels, places = torch.cat(tokens, 1), torch.cat(positions)
        layer = decoder.layers[0]
        pixels = layer.norm1(pixels + layer.self_attn(pixels + places, pixels, tuple(sizes)))
        pixels = layer.norm2(pixels + layer.linear2(layer.linear1(pixels).relu()))
        parts = pixels.split([9, 30, 120], dim=1)
        expected = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
        for level, wanted in zip(levels, expected, strict=True):
            torch.testing.assert_close(level, wanted)
        step = decoder.lateral.norm(decoder.lateral.conv(maps[4]))
        step = step + F.interpolate(expected[2], size=(24, 20), mode="bilinear", align_corners=False)
        step = decoder.smooth.norm(decoder.smooth.conv(step)).relu()
        torch.testing.assert_close(fine, decoder.mask_features(step), rtol=1e-4, atol=1e-5)
