"""RefTR's published checkpoints (ResNet-50 and -101; one phrase or many, boxes or boxes and masks) into our model.

The files hold the state dict under "model". Every size but the numbers of heads is read off the names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.models.reftr.config import OFFICIAL, RefTRConfig, RefTRLosses
from refseg.models.reftr.model import build_reftr
from refseg.models.renaming import Rule, fit, learned, rename

__all__ = ["config_of", "load_state"]

_BODY = r"img_backbone\.0\.body\."
_PACKED = r"(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"
_ENCODER = r"vl_transformer\.encoder\.layers\.(\d+)\."
_DECODER = r"vl_transformer\.decoder\.layers\.(\d+)\."

RULES: list[Rule] = [
    (_BODY + r"conv1\.weight", r"vision.stem.0.conv.weight"),
    (_BODY + r"bn1\.(\w+)", r"vision.stem.0.norm.\1"),
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
    (r"bbox_embed\.layers\.(\d+)\.(\w+)", r"box_head.perceptron.layers.\1.\2"),
    (r"bbox_attention\.q_linear\.(\w+)", r"looks.query.\1"),
    (r"bbox_attention\.k_linear\.(\w+)", r"looks.key.\1"),
    (r"mask_head\.out_lay\.(\w+)", r"mask_head.logits.\1"),
]
# Numbers that begin with 1 there and with 0 here.
RULES += [(rf"mask_head\.lay{n + 1}\.(\w+)", rf"mask_head.convs.{n}.\1") for n in range(5)]
RULES += [(rf"mask_head\.gn{n + 1}\.(\w+)", rf"mask_head.norms.{n}.\1") for n in range(5)]
RULES += [(rf"mask_head\.adapter{n + 1}\.(\w+)", rf"mask_head.skips.{n}.\1") for n in range(3)]
for _stage in range(4):
    _from, _to = _BODY + rf"layer{_stage + 1}\.(\d+)\.", rf"vision.stages.{_stage}.\1."
    for _number in range(3):
        RULES += [
            (_from + rf"conv{_number + 1}\.weight", _to + f"convs.{_number}.conv.weight"),
            (_from + rf"bn{_number + 1}\.(\w+)", _to + rf"convs.{_number}.norm.\2"),
        ]
    RULES += [
        (_from + r"downsample\.0\.weight", _to + "shortcut.conv.weight"),
        (_from + r"downsample\.1\.(\w+)", _to + r"shortcut.norm.\2"),
    ]


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
    `input_size` and `max_words` (90 for Flickr30k Entities) are kept with the model for the pictures and sentences to
    come.
    """
    tensors = learned(state)
    names, unexplained = rename(list(tensors), RULES)
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for published, name in names.items():
        for key, value in _converted(name, tensors[published]).items():
            ours[key], origin[key] = value, published
    config = config_of(
        tensors,
        input_size=input_size,
        max_words=max_words,
        heads=heads,
        text_heads=text_heads,
        family=family,
        dilated=dilated,
    )
    model = build_reftr(config)
    fit(model, ours, origin, unexplained)
    return model.eval()


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
    try:
        words = state["lang_backbone.embeddings.word_embeddings.weight"]
        biases = state["query_encoder.query_embed.weight"]
        hidden = state["vl_transformer.encoder.layers.0.linear1.bias"]
        text = BertTextConfig(
            vocabulary_size=len(words),
            max_words=max_words,
            width=words.shape[1],
            layers=_count(state, "lang_backbone.encoder.layer."),
            heads=text_heads or words.shape[1] // 64,
            feedforward=len(state["lang_backbone.encoder.layer.0.intermediate.dense.bias"]),
            positions=len(state["lang_backbone.embeddings.position_embeddings.weight"]),
            pooler=True,
            family=family,  # type: ignore[arg-type]
        )
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=input_size),
            vision=_resnet_of(state, dilated),
            text=text,
            tasks="both" if masks else "rec",
            width=biases.shape[1] // 2,
            heads=heads,
            encoder_layers=_count(state, "vl_transformer.encoder.layers."),
            decoder_layers=_count(state, "vl_transformer.decoder.layers."),
            feedforward=len(hidden),
            text_positions=len(state["vl_transformer.lang_pos_embeddings.weight"]),
            queries=len(biases),
            box_layers=_count(state, "bbox_embed.layers."),
            losses=OFFICIAL.losses if masks else RefTRLosses(auxiliary=1.0),
        )
    except KeyError as error:
        raise CheckpointError(f"not a checkpoint of RefTR: {error.args[0]} is not in it") from error
    except (ConfigError, IndexError, ValueError) as error:
        raise CheckpointError(f"not a checkpoint of RefTR: its sizes do not fit together ({error})") from error


def _resnet_of(state: Mapping[str, Tensor], dilated: bool) -> ResNetConfig:
    body = "img_backbone.0.body."
    first, second, third, fourth = (len(state[f"{body}layer{stage}.0.conv3.weight"]) for stage in (1, 2, 3, 4))
    depths = tuple(_count(state, f"{body}layer{stage}.") for stage in (1, 2, 3, 4))
    return ResNetConfig(
        widths=(first, second, third, fourth),
        depths=depths,  # type: ignore[arg-type]
        stem_width=len(state[f"{body}conv1.weight"]),
        dilated=dilated,
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers follow `prefix` in the names."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return len({number for number in numbers if number.isdigit()})


def _converted(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our tensors for a renamed one: the packed projection of attention in its parts, the one level of the picture."""
    if name == "level":
        return {name: value[0]}
    stem, _, last = name.rpartition(".")
    if last in ("in_proj_weight", "in_proj_bias"):
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{stem}.{part}.{last.removeprefix('in_proj_')}": piece for part, piece in parts}
    return {name.replace(".out_proj.", ".output."): value}
