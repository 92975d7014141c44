"""RefTR's published checkpoints (ResNet-50 and -101; one phrase or many, boxes or boxes and masks) into our model.

The files hold the state dict under "model". Every size but the numbers of heads is read off the names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.errors import ConfigError
from refseg.models.reftr.config import OFFICIAL, RefTRConfig, RefTRLosses
from refseg.models.reftr.model import build_reftr
from refseg.models.renaming import (
    Rule,
    bert_config,
    convert,
    count,
    learned,
    reading,
    resnet_config,
    resnet_rules,
    split_attention,
)

__all__ = ["config_of", "load_state"]

_BODY = r"img_backbone\.0\.body\."
_PACKED = r"(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"
_ENCODER = r"vl_transformer\.encoder\.layers\.(\d+)\."
_DECODER = r"vl_transformer\.decoder\.layers\.(\d+)\."

RULES: list[Rule] = [
    *resnet_rules(_BODY, "torchvision"),
    (r"lang_backbone\.(.+)", r"text.bert.\1"),
    (r"input_proj\.0\.([01])\.(\w+)", r"project.\1.\2"),
    (r"(map_sentence|map_phrase)\.([0145])\.(\w+)", r"\1.\2.\3"),
    (r"vl_transformer\.level_embed", r"level"),
    (r"vl_transformer\.lang_pos_embeddings\.weight", r"word_positions.weight"),
    (r"vl_transformer\.token_type_embeddings\.weight", r"modality.weight"),
    (_ENCODER + r"self_attn\." + _PACKED, r"encoder.\1.attention.\2"),
    (_ENCODER + r"linear1\.(\w+)", r"encoder.\1.feed_forward.inner.\2"),
    (_ENCODER + r"linear2\.(\w+)", r"encoder.\1.feed_forward.outer.\2"),
    (_ENCODER + r"norm1\.(\w+)", r"encoder.\1.attention_norm.\2"),
    (_ENCODER + r"norm2\.(\w+)", r"encoder.\1.feed_forward_norm.\2"),
    (_DECODER + r"self_attn\." + _PACKED, r"decoder.\1.self_attention.\2"),
    (_DECODER + r"multihead_attn\." + _PACKED, r"decoder.\1.cross_attention.\2"),
    (_DECODER + r"linear1\.(\w+)", r"decoder.\1.feed_forward.inner.\2"),
    (_DECODER + r"linear2\.(\w+)", r"decoder.\1.feed_forward.outer.\2"),
    (_DECODER + r"norm1\.(\w+)", r"decoder.\1.self_norm.\2"),
    (_DECODER + r"norm2\.(\w+)", r"decoder.\1.cross_norm.\2"),
    (_DECODER + r"norm3\.(\w+)", r"decoder.\1.feed_forward_norm.\2"),
    (r"vl_transformer\.decoder\.norm\.(\w+)", r"decoder_norm.\1"),
    (r"query_encoder\.query_embed\.weight", r"query_encoder.bias.weight"),
    (r"query_encoder\.linear1\.(\w+)", r"query_encoder.key.\1"),
    (r"query_encoder\.linear2\.(\w+)", r"query_encoder.query.\1"),
    (r"query_encoder\.linear3\.(\w+)", r"query_encoder.value.\1"),
    (r"query_encoder\.context_out\.([01])\.(\w+)", r"query_encoder.output.\1.\2"),
    (r"query_encoder\.fuse_encoder_query\.([0145])\.(\w+)", r"query_encoder.fuse.\1.\2"),
    (r"bbox_embed\.layers\.(\d+)\.(\w+)", r"box_head.mlp.layers.\1.\2"),
    (r"bbox_attention\.q_linear\.(\w+)", r"pixel_attention.query.\1"),
    (r"bbox_attention\.k_linear\.(\w+)", r"pixel_attention.key.\1"),
    (r"mask_head\.out_lay\.(\w+)", r"mask_head.logits.\1"),
]
# Numbers that begin with 1 there and with 0 here.
RULES += [(rf"mask_head\.lay{n + 1}\.(\w+)", rf"mask_head.convs.{n}.\1") for n in range(5)]
RULES += [(rf"mask_head\.gn{n + 1}\.(\w+)", rf"mask_head.norms.{n}.\1") for n in range(5)]
RULES += [(rf"mask_head\.adapter{n + 1}\.(\w+)", rf"mask_head.skips.{n}.\1") for n in range(3)]


def load_state(
    state: Mapping[str, Tensor],
    *,
    input_size: int = 640,
    max_words: int = 40,
    heads: int = 8,
    text_heads: int | None = None,
    family: str = "bert",
    dilated: bool = False,
) -> nn.Module:
    """The model of a published state dict, in eval mode.

    `heads` are those of the transformer, `text_heads` of BERT (None: one for each 64 channels, as every published BERT
    has); `family` is "roberta" for weights with that encoder, `dilated` is true for those with `--dilation`.
    `input_size` and `max_words` (90 for Flickr30k Entities) are kept with the model for the images and expressions to
    come.
    """
    tensors = learned(state)
    config = config_of(
        tensors,
        input_size=input_size,
        max_words=max_words,
        heads=heads,
        text_heads=text_heads,
        family=family,
        dilated=dilated,
    )
    return convert(build_reftr(config), tensors, RULES, _parts)


def config_of(
    state: Mapping[str, Tensor],
    *,
    input_size: int,
    max_words: int,
    heads: int,
    text_heads: int | None,
    family: str,
    dilated: bool,
) -> RefTRConfig:
    """The configuration that the tensors' names and shapes tell. Raises `CheckpointError` when they are no RefTR's, and
    `ConfigError` for a `family` that does not exist."""
    if family not in ("bert", "roberta"):
        raise ConfigError(f"family={family!r}: bert or roberta is wanted")
    masks = any(name.startswith("mask_head.") for name in state)
    with reading("RefTR"):
        text = bert_config(
            state,
            "lang_backbone.",
            max_words,
            text_heads,
            pooler=True,
            family=family,
        )
        biases = state["query_encoder.query_embed.weight"]
        hidden = state["vl_transformer.encoder.layers.0.linear1.bias"]
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            vision=resnet_config(state, "img_backbone.0.body.", "torchvision", dilated),
            text=text,
            tasks="both" if masks else "rec",
            width=biases.shape[1] // 2,
            heads=heads,
            encoder_layers=count(state, "vl_transformer.encoder.layers."),
            decoder_layers=count(state, "vl_transformer.decoder.layers."),
            feedforward=len(hidden),
            text_positions=len(state["vl_transformer.lang_pos_embeddings.weight"]),
            queries=len(biases),
            box_layers=count(state, "bbox_embed.layers."),
            losses=OFFICIAL.losses if masks else RefTRLosses(auxiliary=1.0),
        )


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our tensors for a renamed one: the packed projection of attention in its parts, the one level of the image."""
    return {name: value[0]} if name == "level" else split_attention(name, value)
