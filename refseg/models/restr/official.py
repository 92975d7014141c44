"""Checkpoints of the published ReSTR code (SouthFlame/restr, revision 371f102) into our model.

The state dict is that of the released network, whose fusion is CME (`fusion_module.MM_fusion`). Its unused classifier
of the vision transformer is left out. Sizes are read off the names and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.encoders.text.glove_transformer import GloveTransformerConfig
from refseg.encoders.vision.vit import ViTConfig
from refseg.errors import CheckpointError
from refseg.models.renaming import Rule, convert, count, learned, reading
from refseg.models.restr.config import OFFICIAL, FusionConfig, ReSTRConfig
from refseg.models.restr.model import build_restr

__all__ = ["RULES", "config_of", "load_state"]

_LANGUAGE = r"encoder_l\.blocks\.(\d+)\."
_FUSION = r"fusion_module\."

RULES: list[Rule] = [
    (r"encoder_v\.cls_token", "vision.class_token"),
    (r"encoder_v\.pos_embed", "vision.positions"),
    (r"encoder_v\.patch_embed\.proj\.(\w+)", r"vision.patch_embed.\1"),
    (r"encoder_v\.(blocks\..+|norm\.\w+)", r"vision.\1"),
    (r"encoder_l\.embedding\.weight", "text.words.weight"),
    (_LANGUAGE + r"norm1\.(\w+)", r"text.layers.\1.attention_norm.\2"),
    (_LANGUAGE + r"norm2\.(\w+)", r"text.layers.\1.feed_forward_norm.\2"),
    (_LANGUAGE + r"attn\.qkv\.(\w+)", r"text.layers.\1.attention.qkv.\2"),
    (_LANGUAGE + r"attn\.proj\.(\w+)", r"text.layers.\1.attention.output.\2"),
    (_LANGUAGE + r"mlp\.fc1\.(\w+)", r"text.layers.\1.feed_forward.inner.\2"),
    (_LANGUAGE + r"mlp\.fc2\.(\w+)", r"text.layers.\1.feed_forward.outer.\2"),
    (r"encoder_l\.proj_lang\.(\w+)", r"text.output.\1"),
    (r"encoder_l\.lang_norm\.(\w+)", r"text.norm.\1"),
    (_FUSION + r"seed_emb", "fusion.seed"),
    (_FUSION + r"proj_patch", "patch_matrix"),
    (_FUSION + r"proj_cls", "classifier_matrix"),
    (_FUSION + r"proj_v\.(\w+)", r"project_patches.\1"),
    (_FUSION + r"proj_l\.(\w+)", r"project_words.\1"),
    (_FUSION + r"blocks_vl\.(.+)", r"fusion.visual_linguistic.blocks.\1"),
    (_FUSION + r"blocks_ls\.(.+)", r"fusion.linguistic_seed.blocks.\1"),
    (_FUSION + r"norm\.(\w+)", r"fusion.norm.\1"),
    (_FUSION + r"decoder\.(\d+)\.up\.1\.weight", r"decoder.layers.\1.weight"),
    (_FUSION + r"decoder\.\d+\.weight", "decoder.output.weight"),
]


def load_state(
    state: Mapping[str, Tensor],
    *,
    input_size: int = 480,
    max_words: int = 20,
    heads: int = 12,
    text_heads: int = 12,
    layers: int | None = None,
) -> nn.Module:
    """The model of a published state dict, in eval mode.

    `heads` are those of the vision encoder and the fusion, `text_heads` those of the language encoder. `layers` is the
    fusion's number of layers in all where each encoder has a single block, which may be applied once or, shared,
    several times: the tensors do not tell (None: as many as there are blocks, of which there are several).
    `input_size` and `max_words` are kept with the model for the images and expressions to come.

    Raises `CheckpointError` that asks for `layers` where it is needed and not given, or fits the blocks in no way.
    """
    tensors = {name.removeprefix("module."): value for name, value in learned(state).items()}
    tensors = {name: value for name, value in tensors.items() if not name.startswith("encoder_v.head.")}
    config = config_of(
        tensors, input_size=input_size, max_words=max_words, heads=heads, text_heads=text_heads, layers=layers
    )
    return convert(build_restr(config), tensors, RULES, _parts)


def config_of(
    state: Mapping[str, Tensor], *, input_size: int, max_words: int, heads: int, text_heads: int, layers: int | None
) -> ReSTRConfig:
    """The configuration that the tensors' names and shapes tell. Raises `CheckpointError` when they are no ReSTR's."""
    with reading("ReSTR"):
        kernel, words = state["encoder_v.patch_embed.proj.weight"], state["encoder_l.embedding.weight"]
        cells = state["encoder_v.pos_embed"].shape[1] - 1
        fused = state["fusion_module.norm.weight"]
        blocks = count(state, "fusion_module.blocks_vl.")
        if layers is None and blocks == 1:
            raise CheckpointError(
                "each fusion encoder has one block, which a model of 2 layers applies once and one with shared weights "
                "several times; say which: layers=4 (CME, shared, of tables 3b to 5), layers=6 (table 4), or layers=2"
            )
        if layers is not None and blocks > 1 and layers != 2 * blocks:
            raise CheckpointError(
                f"layers={layers}: the fusion's encoders have {blocks} blocks each, {2 * blocks} layers"
            )
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            patch=kernel.shape[-1],
            vision=ViTConfig(
                patch=kernel.shape[-1],
                width=len(kernel),
                layers=count(state, "encoder_v.blocks."),
                heads=heads,
                feedforward=len(state["encoder_v.blocks.0.mlp.fc1.bias"]),
                grid=math.isqrt(cells),
                epsilon=1e-5,
            ),
            text=GloveTransformerConfig(
                vocabulary_size=len(words),
                max_words=max_words,
                width=words.shape[1],
                layers=count(state, "encoder_l.blocks."),
                heads=text_heads,
                feedforward=len(state["encoder_l.blocks.0.mlp.fc1.bias"]),
                norm="post",
                output_width=len(state["encoder_l.proj_lang.bias"]),
                align="end",
                mask_padding=False,
            ),
            fusion=FusionConfig(
                layers=2 * blocks if layers is None else layers,
                share=blocks == 1 and layers != 2,
                width=len(fused),
                heads=heads,
                feedforward=len(state["fusion_module.blocks_vl.0.mlp.fc1.bias"]),
                output_norm="classifier",
            ),
        )


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our tensors for a renamed one: the language encoder keeps queries, keys and values apart."""
    if name.startswith("text.") and ".qkv." in name:
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {name.replace("qkv", part): piece for part, piece in parts}
    return {name: value}
