"""State dicts under the names that CRIS's authors' code gives its tensors, at any size; written from its structure."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.support.published_rela import Shapes, fill


def names_and_shapes(
    width: int = 4,
    depths: tuple[int, ...] = (1, 2, 1, 1),
    joint: int = 12,
    grid: int = 3,
    text: int = 16,
    text_layers: int = 2,
    vocabulary: int = 40,
    positions: int = 11,
    neck: tuple[int, int] = (6, 20),
    layers: int = 2,
    feedforward: int = 24,
) -> Shapes:
    """Every floating tensor of a checkpoint: name -> shape. The decoder is as wide as the words."""
    shapes: Shapes = {}

    def pair(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def norm(name: str, channels: int) -> None:
        pair(name, channels)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (channels,)

    def conv(name: str, outputs: int, inputs: int, kernel: int, normal: str) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        norm(normal, outputs)

    def row(name: str, inputs: int, outputs: int, kernel: int) -> None:
        conv(f"{name}.0", outputs, inputs, kernel, f"{name}.1")

    visual = "backbone.visual"
    for number, (inputs, outputs) in enumerate(((3, width // 2), (width // 2, width // 2), (width // 2, width)), 1):
        conv(f"{visual}.conv{number}", outputs, inputs, 3, f"{visual}.bn{number}")
    inputs = width
    for stage, depth in enumerate(depths):
        inner = width << stage
        for index in range(depth):
            block = f"{visual}.layer{stage + 1}.{index}"
            conv(f"{block}.conv1", inner, inputs, 1, f"{block}.bn1")
            conv(f"{block}.conv2", inner, inner, 3, f"{block}.bn2")
            conv(f"{block}.conv3", 4 * inner, inner, 1, f"{block}.bn3")
            if index == 0:
                row(f"{block}.downsample", inputs, 4 * inner, 1)
            inputs = 4 * inner
    shapes[f"{visual}.attnpool.positional_embedding"] = (grid**2 + 1, inputs)
    for part in "kqv":
        pair(f"{visual}.attnpool.{part}_proj", inputs, inputs)
    pair(f"{visual}.attnpool.c_proj", joint, inputs)
    row(f"{visual}.attnpool.connect", inputs, joint, 1)

    shapes["backbone.token_embedding.weight"] = (vocabulary, text)
    shapes["backbone.positional_embedding"] = (positions, text)
    shapes["backbone.text_projection"] = (text, joint)
    shapes["backbone.logit_scale"] = ()
    pair("backbone.ln_final", text)
    for index in range(text_layers):
        layer = f"backbone.transformer.resblocks.{index}"
        attention(shapes, pair, f"{layer}.attn", text)
        pair(f"{layer}.mlp.c_fc", 4 * text, text)
        pair(f"{layer}.mlp.c_proj", text, 4 * text)
        pair(f"{layer}.ln_1", text)
        pair(f"{layer}.ln_2", text)

    fine, coarse = neck
    shapes["neck.txt_proj.0.weight"] = (coarse, joint)
    norm("neck.txt_proj.1", coarse)
    row("neck.f1_v_proj", joint, coarse, 1)
    norm("neck.norm_layer.0", coarse)
    row("neck.f2_v_proj", 16 * width, text, 3)
    row("neck.f2_cat", coarse + text, text, 1)
    row("neck.f3_v_proj", 8 * width, fine, 3)
    row("neck.f3_cat", fine + text, text, 1)
    for level, channels in ((5, coarse), (4, text), (3, text)):
        row(f"neck.f4_proj{level}", channels, text, 3)
    row("neck.aggr", 3 * text, text, 1)
    row("neck.coordconv.0.conv1", text + 2, text, 3)
    row("neck.coordconv.1", text, text, 3)

    for index in range(layers):
        layer = f"decoder.layers.{index}"
        for name in ("self_attn", "multihead_attn"):
            attention(shapes, pair, f"{layer}.{name}", text)
        for name in ("self_attn_norm", "cross_attn_norm", "norm1", "norm2", "norm3"):
            pair(f"{layer}.{name}", text)
        pair(f"{layer}.ffn.0", feedforward, text)
        pair(f"{layer}.ffn.3", feedforward)
        pair(f"{layer}.ffn.4", text, feedforward)
    pair("decoder.norm", text)
    row("proj.vis.1", text, text, 3)
    row("proj.vis.3", text, text // 2, 3)
    pair("proj.vis.4", text // 2, text // 2, 1, 1)
    pair("proj.txt", text // 2 * 9 + 1, joint)
    return shapes


def attention(shapes: Shapes, pair, name: str, width: int) -> None:
    shapes[f"{name}.in_proj_weight"], shapes[f"{name}.in_proj_bias"] = (3 * width, width), (3 * width,)
    pair(f"{name}.out_proj", width, width)


def published(**sizes) -> dict[str, Tensor]:
    """A filled state dict, with the counters that real files hold."""
    state = {name: fill(name, shape) for name, shape in names_and_shapes(**sizes).items()}
    state["backbone.visual.bn1.num_batches_tracked"] = torch.tensor(7)
    return state
