"""ReLA's published checkpoints (Swin-T, Swin-B, ResNet-50; branches main and original) into our model.

The branch and every size are read off the names and shapes. detectron2's files hold the state dict under "model".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.models.rela.config import OFFICIAL, DeformableConfig, ReLAConfig
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.model import build_rela
from refseg.models.renaming import (
    Rule,
    bert_config,
    convert,
    count,
    language_swin_rules,
    learned,
    reading,
    resnet_config,
    resnet_rules,
    split_attention,
    swin_config,
    without_kernels,
)

__all__ = ["config_of", "load_state"]

_HEAD = r"sem_seg_head\."
_PIXELS = _HEAD + r"pixel_decoder\."
_PREDICTOR = _HEAD + r"predictor\."
_MHA = r"\.(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"

RULES: list[Rule] = [
    (r"text_encoder\.(embeddings|encoder)\.(.+)", r"text.bert.\1.\2"),
    # pixel decoder
    (_PIXELS + r"transformer\.level_embed", r"pixel_decoder.level_embed"),
    (_PIXELS + r"transformer\.encoder\.(layers\..+)", r"pixel_decoder.\1"),
    (_PIXELS + r"adapter_1\.weight", r"pixel_decoder.lateral.conv.weight"),
    (_PIXELS + r"adapter_1\.norm\.(\w+)", r"pixel_decoder.lateral.norm.\1"),
    (_PIXELS + r"layer_1\.weight", r"pixel_decoder.smooth.conv.weight"),
    (_PIXELS + r"layer_1\.norm\.(\w+)", r"pixel_decoder.smooth.norm.\1"),
    (_PIXELS + r"(input_proj\..+|mask_features\..+)", r"pixel_decoder.\1"),
    # predictor, both branches
    (_PREDICTOR + r"query_feat\.weight", r"relation.regions.weight"),
    (_PREDICTOR + r"query_embed\.weight", r"relation.region_positions.weight"),
    (_PREDICTOR + r"level_embed\.weight", r"relation.scales.weight"),
    (_PREDICTOR + r"lang_proj\.weight", r"relation.words.weight"),
    (_PREDICTOR + r"decoder_norm\.(\w+)", r"relation.norm.\1"),
    (_PREDICTOR + r"minimap_embed\.(\w+)", r"relation.minimap.\1"),
    (_PREDICTOR + r"mask_embed\.layers\.(.+)", r"relation.filter.layers.\1"),
    (_PREDICTOR + r"nt_embed\.layers\.(.+)", r"relation.no_target.layers.\1"),
    (_PREDICTOR + r"transformer_ffn_layers\.(\d+)\.linear1\.(\w+)", r"relation.layers.\1.feed_forward.inner.\2"),
    (_PREDICTOR + r"transformer_ffn_layers\.(\d+)\.linear2\.(\w+)", r"relation.layers.\1.feed_forward.outer.\2"),
    (_PREDICTOR + r"transformer_ffn_layers\.(\d+)\.norm\.(\w+)", r"relation.layers.\1.norm.\2"),
    (
        _PREDICTOR + r"(?:RIA_layers|RIA_cross_attention)\.(\d+)\.multihead_attn" + _MHA,
        r"relation.layers.\1.ria.attention.\2",
    ),
    (_PREDICTOR + r"(?:RIA_layers|RIA_cross_attention)\.(\d+)\.norm\.(\w+)", r"relation.layers.\1.ria.norm.\2"),
    (
        _PREDICTOR + r"(?:RLA_vision|self_attention_layers)\.(\d+)\.self_attn" + _MHA,
        r"relation.layers.\1.regions.attention.\2",
    ),
    (_PREDICTOR + r"(?:RLA_vision|self_attention_layers)\.(\d+)\.norm\.(\w+)", r"relation.layers.\1.regions.norm.\2"),
    # branch main
    (_PREDICTOR + r"lang_weight", r"relation.first.gate"),
    (_PREDICTOR + r"RLA_lang_att\.multihead_attn" + _MHA, r"relation.first.language.attention.\1"),
    (_PREDICTOR + r"RLA_lang_att\.norm\.(\w+)", r"relation.first.language.norm.\1"),
    # branch original
    (_PREDICTOR + r"RLA_gate", r"relation.last.gate"),
    (_PREDICTOR + r"RLA_proj\.weight", r"relation.last.project.weight"),
    (_PREDICTOR + r"decoder_norm_2\.(\w+)", r"relation.last.norm.\1"),
    (_PREDICTOR + r"RLA_lang\.multihead_attn" + _MHA, r"relation.last.language.attention.\1"),
    (_PREDICTOR + r"RLA_lang\.norm\.(\w+)", r"relation.last.language.norm.\1"),
    (_PREDICTOR + r"RLA_region\.self_attn" + _MHA, r"relation.last.regions.attention.\1"),
    (_PREDICTOR + r"RLA_region\.norm\.(\w+)", r"relation.last.regions.norm.\1"),
]
RULES += language_swin_rules(r"backbone\.") + resnet_rules(r"backbone\.", "detectron2")


def load_state(
    state: Mapping[str, Tensor],
    *,
    input_size: int = 480,
    max_words: int = 20,
    heads: int = 8,
    pixel_heads: int = 8,
    text_heads: int | None = None,
) -> nn.Module:
    """The model of a published state dict, in eval mode.

    `heads` are those of the region decoder, `pixel_heads` of the deformable pixel decoder, `text_heads` of BERT (None:
    one for each 64 channels, as every published BERT has). `input_size` and `max_words` are kept with the model for
    the images and expressions to come.
    """
    tensors = learned(state)
    config = config_of(
        tensors,
        input_size=input_size,
        max_words=max_words,
        heads=heads,
        pixel_heads=pixel_heads,
        text_heads=text_heads,
    )
    return convert(build_rela(config), tensors, RULES, _parts)


def config_of(
    state: Mapping[str, Tensor],
    *,
    input_size: int,
    max_words: int,
    heads: int,
    pixel_heads: int,
    text_heads: int | None,
) -> ReLAConfig:
    """The configuration that the tensors' names and shapes tell. Raises `CheckpointError` when they are no ReLA's."""
    with reading("ReLA"):
        regions = math.isqrt(len(state["sem_seg_head.predictor.query_feat.weight"]))
        width = state["sem_seg_head.predictor.query_feat.weight"].shape[1]
        vision = (
            resnet_config(state, "backbone.", "detectron2")
            if "backbone.stem.conv1.weight" in state
            else swin_config(state, "backbone.")
        )
        attention = state["sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.bias"]
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            vision=vision,
            language_in_vision=any(".fusion." in name for name in state),
            text=bert_config(state, "text_encoder.", max_words, text_heads),
            pixel_decoder=DeformableConfig(
                layers=count(state, "sem_seg_head.pixel_decoder.transformer.encoder.layers."),
                heads=pixel_heads,
                points=len(attention) // (pixel_heads * 3),
                feedforward=len(state["sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1.bias"]),
            ),
            width=width,
            regions=regions,
            relation=MaskedRegionDecoderConfig(
                layers=count(state, "sem_seg_head.predictor.transformer_ffn_layers."),
                heads=heads,
                feedforward=len(state["sem_seg_head.predictor.transformer_ffn_layers.0.linear1.bias"]),
                language="last" if "sem_seg_head.predictor.RLA_gate" in state else "first_layer",
                filter_layers=count(state, "sem_seg_head.predictor.mask_embed.layers."),
                no_target_layers=count(state, "sem_seg_head.predictor.nt_embed.layers."),
            ),
        )


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our tensors for a renamed one: kernels of size 1 as matrices, the packed projection of attention in its parts."""
    if name.startswith("language_stages."):
        return without_kernels(name, value)
    return split_attention(name, value)
