"""State dicts under the names that the authors' code gives its tensors, at any size, and the rule that fills them.

`names_and_shapes` is written from the published code's structure; a test checks it against the list of names that came
with the golden values, so that smaller and other variants (ResNet-50) can be made without a checkpoint.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def fill(name: str, shape: Iterable[int]) -> Tensor:
    """The tensor that the fill rule of the golden values makes of a name and a shape."""
    shape = tuple(shape)
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        z = z / np.float32(math.sqrt(math.prod(shape[1:])))
    elif name.endswith("running_var"):
        z = 0.75 + 0.25 * np.abs(z)
    elif name.endswith("weight"):
        z = 1 + np.float32(0.1) * z
    else:
        z = np.float32(0.1) * z
    return torch.from_numpy(np.asarray(z, dtype=np.float32))


def names_and_shapes(
    branch: str = "main",
    backbone: str = "swin",
    embed: int = 8,
    depths: tuple[int, ...] = (1, 1, 2, 1),
    heads: tuple[int, ...] = (1, 2, 2, 4),
    window: int = 4,
    text: int = 64,
    text_layers: int = 1,
    text_ffn: int = 32,
    vocabulary: int = 30,
    positions: int = 24,
    width: int = 32,
    regions: int = 3,
    layers: int = 3,
    ffn: int = 48,
    pixel_layers: int = 1,
    pixel_ffn: int = 40,
) -> Shapes:
    """Every floating tensor of a published ReLA: name -> shape."""
    shapes: Shapes = {}

    def pair(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    if backbone == "swin":
        channels = [embed * 2**stage for stage in range(4)]
        _swin(shapes, pair, channels, depths, heads, window, text)
    else:
        channels = [embed * 4 * 2**stage for stage in range(4)]
        _resnet(shapes, embed, channels, depths)

    for table, rows in (("word", vocabulary), ("position", positions), ("token_type", 2)):
        shapes[f"text_encoder.embeddings.{table}_embeddings.weight"] = (rows, text)
    pair("text_encoder.embeddings.LayerNorm", text)
    for index in range(text_layers):
        layer = f"text_encoder.encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            pair(f"{layer}.attention.{part}", text, text)
        pair(f"{layer}.intermediate.dense", text_ffn, text)
        pair(f"{layer}.output.dense", text, text_ffn)
        pair(f"{layer}.attention.output.LayerNorm", text)
        pair(f"{layer}.output.LayerNorm", text)

    pixels = "sem_seg_head.pixel_decoder"
    for level in range(3):
        pair(f"{pixels}.input_proj.{level}.0", width, channels[3 - level], 1, 1)
        pair(f"{pixels}.input_proj.{level}.1", width)
    shapes[f"{pixels}.transformer.level_embed"] = (3, width)
    for index in range(pixel_layers):
        layer = f"{pixels}.transformer.encoder.layers.{index}"
        pair(f"{layer}.self_attn.sampling_offsets", 8 * 3 * 4 * 2, width)
        pair(f"{layer}.self_attn.attention_weights", 8 * 3 * 4, width)
        pair(f"{layer}.self_attn.value_proj", width, width)
        pair(f"{layer}.self_attn.output_proj", width, width)
        pair(f"{layer}.linear1", pixel_ffn, width)
        pair(f"{layer}.linear2", width, pixel_ffn)
        pair(f"{layer}.norm1", width)
        pair(f"{layer}.norm2", width)
    pair(f"{pixels}.mask_features", width, width, 1, 1)
    shapes[f"{pixels}.adapter_1.weight"] = (width, channels[0], 1, 1)
    shapes[f"{pixels}.layer_1.weight"] = (width, width, 3, 3)
    pair(f"{pixels}.adapter_1.norm", width)
    pair(f"{pixels}.layer_1.norm", width)

    predictor = "sem_seg_head.predictor"

    def attention(name: str, inner: str) -> None:
        shapes[f"{predictor}.{name}.{inner}.in_proj_weight"] = (3 * width, width)
        shapes[f"{predictor}.{name}.{inner}.in_proj_bias"] = (3 * width,)
        pair(f"{predictor}.{name}.{inner}.out_proj", width, width)
        pair(f"{predictor}.{name}.norm", width)

    main = branch == "main"
    for index in range(layers):
        attention(f"{'RIA_layers' if main else 'RIA_cross_attention'}.{index}", "multihead_attn")
        attention(f"{'RLA_vision' if main else 'self_attention_layers'}.{index}", "self_attn")
        pair(f"{predictor}.transformer_ffn_layers.{index}.linear1", ffn, width)
        pair(f"{predictor}.transformer_ffn_layers.{index}.linear2", width, ffn)
        pair(f"{predictor}.transformer_ffn_layers.{index}.norm", width)
    if main:
        shapes[f"{predictor}.lang_weight"] = ()
        attention("RLA_lang_att", "multihead_attn")
    else:
        shapes[f"{predictor}.RLA_gate"] = ()
        shapes[f"{predictor}.RLA_proj.weight"] = (width, width)
        attention("RLA_lang", "multihead_attn")
        attention("RLA_region", "self_attn")
        pair(f"{predictor}.decoder_norm_2", width)
    pair(f"{predictor}.decoder_norm", width)
    shapes[f"{predictor}.query_feat.weight"] = shapes[f"{predictor}.query_embed.weight"] = (regions**2, width)
    shapes[f"{predictor}.lang_proj.weight"] = (width, text)
    shapes[f"{predictor}.level_embed.weight"] = (3, width)
    pair(f"{predictor}.minimap_embed", 2, width)
    for name, outputs in (("nt_embed", [width, 2]), ("mask_embed", [width, width, width])):
        for index, size in enumerate(outputs):
            pair(f"{predictor}.{name}.layers.{index}", size, width)
    return shapes


def _swin(shapes: Shapes, pair, channels, depths, heads, window, text) -> None:
    pair("backbone.patch_embed.proj", channels[0], 3, 4, 4)
    pair("backbone.patch_embed.norm", channels[0])
    for stage, (width, depth) in enumerate(zip(channels, depths, strict=True)):
        prefix = f"backbone.layers.{stage}"
        for index in range(depth):
            block = f"{prefix}.blocks.{index}"
            pair(f"{block}.norm1", width)
            pair(f"{block}.norm2", width)
            shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads[stage])
            pair(f"{block}.attn.qkv", 3 * width, width)
            pair(f"{block}.attn.proj", width, width)
            pair(f"{block}.mlp.fc1", 4 * width, width)
            pair(f"{block}.mlp.fc2", width, 4 * width)
        for name, inputs in (
            ("vis_project.0", width),
            ("image_lang_att.f_query.0", width),
            ("image_lang_att.f_key.0", text),
            ("image_lang_att.f_value.0", text),
            ("image_lang_att.W.0", width),
            ("project_mm.0", width),
        ):
            pair(f"{prefix}.fusion.{name}", width, inputs, 1)
        if stage < 3:
            shapes[f"{prefix}.downsample.reduction.weight"] = (2 * width, 4 * width)
            pair(f"{prefix}.downsample.norm", 4 * width)
            for gate in (0, 2):
                shapes[f"{prefix}.res_gate.{gate}.weight"] = (width, width)
        pair(f"backbone.norm{stage}", width)


def _resnet(shapes: Shapes, stem: int, channels, depths) -> None:
    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{part}"] = (outputs,)

    conv("backbone.stem.conv1", stem, 3, 7)
    inputs = stem
    for stage, (width, depth) in enumerate(zip(channels, depths, strict=True)):
        for index in range(depth):
            block, inner = f"backbone.res{stage + 2}.{index}", width // 4
            conv(f"{block}.conv1", inner, inputs, 1)
            conv(f"{block}.conv2", inner, inner, 3)
            conv(f"{block}.conv3", width, inner, 1)
            if index == 0:
                conv(f"{block}.shortcut", width, inputs, 1)
            inputs = width


def published(**sizes) -> dict[str, Tensor]:
    """A filled state dict, with the integer buffers that real files hold."""
    state = {name: fill(name, shape) for name, shape in names_and_shapes(**sizes).items()}
    state["text_encoder.embeddings.position_ids"] = torch.arange(24)[None]
    if sizes.get("backbone", "swin") == "swin":
        state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    return state
