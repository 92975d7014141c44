"""Checkpoints of CRIS's published code (DerrickWang005/CRIS.pytorch at 664b984) into our model.

Sizes are read off the names and shapes. A training run of that code saves them under `state_dict`, each name behind
`module.`. Left out are what the code never uses: CLIP's temperature, and the position of CLIP's pooled query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.encoders.text.clip import ClipText, ClipTextConfig
from refseg.encoders.text.clip import from_openai as text_from_openai
from refseg.encoders.vision.clip_resnet import ClipResNetConfig
from refseg.encoders.vision.clip_resnet import from_openai as vision_from_openai
from refseg.models.cris.config import OFFICIAL, CRISConfig, VLDecoderConfig
from refseg.models.cris.model import CRIS, build_cris
from refseg.models.renaming import Rule, count, fit, learned, reading, rename, split_attention

__all__ = ["RULES", "config_of", "load_state"]

_BACKBONE = "backbone."


def _conv(published: str, ours: str) -> list[Rule]:
    """A convolution, its normalisation and ReLU in a row."""
    return [(published + r"\.0\.weight", ours + ".conv.weight"), (published + r"\.1\.(\w+)", ours + r".norm.\1")]


_LAYER, _OURS = r"decoder\.layers\.(\d+)\.", r"decoder.layers.\1."

RULES: list[Rule] = [
    (r"neck\.txt_proj\.0\.weight", "neck.sentence.weight"),
    (r"neck\.txt_proj\.1\.(\w+)", r"neck.sentence_norm.norm.\1"),
    (r"neck\.norm_layer\.0\.(\w+)", r"neck.fused_norm.\1"),
    *_conv(r"neck\.f1_v_proj", "neck.project_5"),
    *_conv(r"neck\.f2_v_proj", "neck.project_4"),
    *_conv(r"neck\.f3_v_proj", "neck.project_3"),
    *_conv(r"neck\.f2_cat", "neck.join_4"),
    *_conv(r"neck\.f3_cat", "neck.join_3"),
    *_conv(r"neck\.f4_proj5", "neck.out_5"),
    *_conv(r"neck\.f4_proj4", "neck.out_4"),
    *_conv(r"neck\.f4_proj3", "neck.out_3"),
    *_conv(r"neck\.aggr", "neck.aggregate"),
    *_conv(r"neck\.coordconv\.0\.conv1", "neck.locate"),
    *_conv(r"neck\.coordconv\.1", "neck.smooth"),
    (_LAYER + r"self_attn\.(.+)", _OURS + r"self_attention.\2"),
    (_LAYER + r"multihead_attn\.(.+)", _OURS + r"cross_attention.\2"),
    (_LAYER + r"self_attn_norm\.(\w+)", _OURS + r"self_norm.\2"),
    (_LAYER + r"cross_attn_norm\.(\w+)", _OURS + r"cross_norm.\2"),
    (_LAYER + r"norm([123])\.(\w+)", _OURS + r"norm\2.\3"),
    (_LAYER + r"ffn\.0\.(\w+)", _OURS + r"inner.\2"),
    (_LAYER + r"ffn\.3\.(\w+)", _OURS + r"inner_norm.\2"),
    (_LAYER + r"ffn\.4\.(\w+)", _OURS + r"outer.\2"),
    (r"decoder\.norm\.(\w+)", r"decoder.norm.\1"),
    *_conv(r"proj\.vis\.1", "projector.first"),
    *_conv(r"proj\.vis\.3", "projector.second"),
    (r"proj\.vis\.4\.(\w+)", r"projector.pixels.\1"),
    (r"proj\.txt\.(\w+)", r"projector.text.\1"),
]
"""Of everything but CLIP, whose names the encoders' own readers know."""


def load_state(
    state: Mapping[str, Tensor],
    *,
    input_size: int = 416,
    max_words: int = 17,
    heads: int = 8,
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> nn.Module:
    """The model of a published state dict, in eval mode.

    `heads` are those of the decoder, the others' None is one for each 64 channels, as in every CLIP. `max_words` is 22
    for RefCOCOg. `input_size` and `max_words` are kept with the model for the images and expressions to come. Raises
    `CheckpointError`.
    """
    tensors = {name.removeprefix("module."): value for name, value in learned(state).items()}
    config = config_of(
        tensors,
        input_size=input_size,
        max_words=max_words,
        heads=heads,
        vision_heads=vision_heads,
        text_heads=text_heads,
    )
    model = build_cris(config)
    clip = {name.removeprefix(_BACKBONE): value for name, value in tensors.items() if name.startswith(_BACKBONE)}
    assert isinstance(model, CRIS)
    assert isinstance(model.text, ClipText)
    ours = {f"vision.{name}": value for name, value in vision_from_openai(clip).items()}
    ours |= {f"text.{name}": value for name, value in text_from_openai(clip, model.text).items()}
    origin: dict[str, str] = {}
    names, unexplained = rename([name for name in tensors if not name.startswith(_BACKBONE)], RULES)
    for published, name in names.items():
        parts = split_attention(name, tensors[published]) if "_attention." in name else {name: tensors[published]}
        for key, value in parts.items():
            ours[key], origin[key] = value, published
    fit(model, ours, origin, unexplained)
    return model.eval()


def config_of(
    state: Mapping[str, Tensor],
    *,
    input_size: int,
    max_words: int,
    heads: int,
    vision_heads: int | None,
    text_heads: int | None,
) -> CRISConfig:
    """The configuration that the tensors' names and shapes tell. Raises `CheckpointError` when they are no CRIS's."""
    with reading("CRIS"):
        visual, text = f"{_BACKBONE}visual.", f"{_BACKBONE}transformer.resblocks."
        first, second, third, fourth = (count(state, f"{visual}layer{stage}.") for stage in range(1, 5))
        positions = state[f"{visual}attnpool.positional_embedding"]
        words, joint = state[f"{_BACKBONE}token_embedding.weight"], state[f"{_BACKBONE}text_projection"].shape[1]
        width = len(state["decoder.norm.weight"])
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            vision=ClipResNetConfig(
                width=len(state[f"{visual}conv3.weight"]),
                depths=(first, second, third, fourth),
                output_width=len(state[f"{visual}attnpool.c_proj.bias"]),
                heads=vision_heads or positions.shape[1] // 64,
                grid=math.isqrt(len(positions) - 1),
            ),
            text=ClipTextConfig(
                vocabulary_size=len(words),
                max_words=max_words,
                width=words.shape[1],
                layers=count(state, text),
                heads=text_heads or words.shape[1] // 64,
                feedforward=len(state[f"{text}0.mlp.c_fc.bias"]),
                positions=len(state[f"{_BACKBONE}positional_embedding"]),
                joint_width=joint,
            ),
            neck=(len(state["neck.f3_v_proj.0.weight"]), len(state["neck.f1_v_proj.0.weight"])),
            width=width,
            kernel=math.isqrt((len(state["proj.txt.bias"]) - 1) // (width // 2)),
            decoder=VLDecoderConfig(
                layers=count(state, "decoder.layers."),
                heads=heads,
                feedforward=len(state["decoder.layers.0.ffn.0.bias"]),
            ),
        )
