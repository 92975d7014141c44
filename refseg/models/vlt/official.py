"""Weights of VLT's published code (henghuiding/Vision-Language-Transformer, revision 9b24015) into our model.

The code is Keras, of the ICCV 2021 version. Weights are arrays by name, such as `conv2d_58/kernel:0`; layers are
counted by kind in the order in which the code makes them, from 0 (no number) or from 1, as older versions of Keras do.
Kernels are (height, width, in, out) and matrices (in, out). GloVe's vectors are not among the weights: the code looks
words up in a spaCy package. Give them as `vectors`, or put them in with `refseg.encoders.pretrained.load_word_vectors`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.vision.darknet import DarkNet, DarkNetConfig
from refseg.encoders.vision.darknet_weights import kernel_of
from refseg.models.renaming import fit, reading
from refseg.models.vlt.config import OFFICIAL, MaskDecoderConfig, QueryConfig, TransformerConfig, VLTConfig
from refseg.models.vlt.model import build_vlt

__all__ = ["config_of", "load_state"]

_BODY = 58
"""Convolutions of the DarkNet; the ones that change the width are listed next."""
_WIDTHS = (0, 1, 4, 9, 26, 43)

_CONVS = {
    58: "fusion.residual.0",
    59: "fusion.residual.1",
    60: "fusion.middle",
    61: "fusion.join_middle",
    62: "fusion.fine",
    63: "fusion.join_fine",
    64: "fusion.narrow.0",
    65: "fusion.narrow.1",
    66: "fusion.reduce",
    67: "fusion.output.0",
    68: "fusion.output.1",
    69: "query_generation.reduce.0",
    70: "query_generation.reduce.1",
    71: "query_generation.reduce.2",
    **{73 + index: f"mask_decoder.convs.{index}" for index in range(6)},
}
_PLAIN_CONVS = {72: "query_generation.reduce.3", 79: "mask_decoder.output"}
_NORMS = {
    58: "fusion.residual.0.norm",
    59: "fusion.residual.1.norm",
    60: "fusion.sentence_norm",
    61: "fusion.product_norm",
    # Two normalisations without a convolution stand before these; the one of number 72 has none.
    **{number + (2 if number < 72 else 1): f"{name}.norm" for number, name in _CONVS.items() if number > 59},
}
_DENSE = {
    0: "text.attention",
    1: "fusion.sentence",
    2: "query_generation.visual",
    3: "query_generation.key",
    4: "query_generation.projections.0",
    5: "query_generation.projections.1",
    6: "query_generation.projections.2",
    7: "query_balance.query",
    8: "query_balance.response",
    9: "query_balance.joint",
    10: "query_balance.confidence",
    11: "mask_features.dense",
}
_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_COUNTED = re.compile(r"(conv2d|batch_normalization|dense|multi_head_attention|bidirectional)(?:_(\d+))?/(.+)")
_BLOCK = re.compile(
    r"(Encoder|Decoder)-(\d+)-(MultiHeadSelfAttention|MultiHeadQueryAttention|FeedForward)(-Norm)?/(.+)"
)
_LETTERS = {"q": "query", "k": "key", "v": "value", "o": "output", "1": "inner", "2": "outer"}


def load_state(
    state: Mapping[str, Tensor], *, max_words: int = 15, heads: int = 8, vectors: Tensor | None = None
) -> nn.Module:
    """The model of the published weights, in eval mode.

    `max_words` is 15 for RefCOCO and RefCOCO+, 20 for G-Ref. `vectors` (V, 300) is the word table: row 0, padding, and
    row 1, unknown words, are zeros; without it the table has three rows of zeros, for callers that put vectors in.
    """
    arrays = _normalised(state)
    config = config_of(arrays, max_words=max_words, heads=heads)
    width = config.text.embedding  # type: ignore[union-attr]
    table = torch.zeros(3, width) if vectors is None else vectors
    config = replace(config, text=replace(config.text, vocabulary_size=len(table)))
    # Random first weights of 90 million parameters would take longer than the reading.
    with torch.device("meta"):
        model = build_vlt(config)
    model.to_empty(device="cpu")
    body = model.vision
    assert isinstance(body, DarkNet)
    names = {id(module): name for name, module in model.named_modules()}
    convs = {index: names[id(conv)] for index, conv in enumerate(body.convolutions())} | _CONVS
    norms = {index: f"{convs[index]}.norm" for index in range(_BODY)} | _NORMS
    ours: dict[str, Tensor] = {"text.words.weight": table}
    origin: dict[str, str] = {"text.words.weight": "vectors"}
    unexplained = []
    for published, value in arrays.items():
        converted = list(_converted(published, value, convs, norms))
        unexplained += [] if converted else [published]
        for name, tensor in converted:
            ours[name], origin[name] = tensor, published
    counters = {name: torch.tensor(0) for name in model.state_dict() if name.endswith("num_batches_tracked")}
    fit(model, ours | counters, origin, unexplained)
    return model.eval()


def config_of(arrays: Mapping[str, Tensor], *, max_words: int, heads: int) -> VLTConfig:
    """The configuration that names (counted from 0) and shapes tell. Raises `CheckpointError` for what is no VLT."""
    with reading("VLT"):
        number = arrays["conv2d_72/kernel"].shape[-1]
        places, width = arrays["dense_2/kernel"].shape
        grid = math.isqrt(places)
        embedding, gates = arrays["bidirectional/forward_gru/kernel"].shape
        layers = {
            kind: len({m[2] for m in map(_BLOCK.fullmatch, arrays) if m is not None and m[1] == kind})
            for kind in ("Encoder", "Decoder")
        }
        widths = tuple(arrays[f"conv2d{f'_{index}' if index else ''}/kernel"].shape[-1] for index in _WIDTHS)
        feedforward = arrays["Encoder-1-FeedForward/W1"].shape[-1]
        channels = arrays["conv2d_73/kernel"].shape[-1]
        assert isinstance(OFFICIAL.transformer, TransformerConfig)
        assert isinstance(OFFICIAL.mask_decoder, MaskDecoderConfig)
        assert isinstance(OFFICIAL.text, RecurrentTextConfig)
        return replace(
            OFFICIAL,
            input=replace(OFFICIAL.input, size=OFFICIAL.stride * grid, divisor=OFFICIAL.stride),
            vision=DarkNetConfig(widths=widths),  # type: ignore[arg-type]
            text=replace(OFFICIAL.text, max_words=max_words, embedding=embedding, hidden=gates // 3),
            width=width,
            queries=QueryConfig(number=number, source="fused", form="code", heads=heads, channels=None),
            transformer=replace(
                OFFICIAL.transformer,
                encoder_layers=layers["Encoder"],
                decoder_layers=layers["Decoder"],
                heads=heads,
                head_width=width // heads,
                feedforward=feedforward,
            ),
            mask_decoder=replace(OFFICIAL.mask_decoder, channels=channels),
        )


def _normalised(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays with layers counted from 0, without `:0`, and without the repetition of a block's name."""
    first: dict[str, int] = {}
    for name in state:
        match = _COUNTED.fullmatch(name)
        if match is not None:
            first[match[1]] = min(first.get(match[1], 1 << 30), int(match[2] or 0))
    arrays: dict[str, Tensor] = {}
    for name, value in state.items():
        match = _COUNTED.fullmatch(name)
        if match is None:
            layer, _, part = name.partition("/")
            part = part.removeprefix(f"{layer}_")
        else:
            number = int(match[2] or 0) - first[match[1]]
            layer, part = f"{match[1]}_{number}" if number else match[1], match[3]
            part = re.sub(r"^multi_head_attention(_\d+)?_", "", part)
            part = re.sub(r"(forward|backward)_gru(?:_\d+)?/(?:gru_cell(?:_\d+)?/)?", r"\1_gru/", part)
        arrays[f"{layer}/{part.removesuffix(':0')}"] = value
    return arrays


def _converted(
    name: str, value: Tensor, convs: Mapping[int, str], norms: Mapping[int, str]
) -> Iterator[tuple[str, Tensor]]:
    """Our name and tensor for a published array; nothing for one that no rule explains."""
    block, counted = _BLOCK.fullmatch(name), _COUNTED.fullmatch(name)
    if block is not None:
        yield from _of_block(block, value)
    elif counted is not None:
        kind, number, part = counted[1], int(counted[2] or 0), counted[3]
        if kind == "conv2d" and part == "kernel" and number in convs:
            yield f"{convs[number]}.conv.weight", kernel_of(value)
        elif kind == "conv2d" and number in _PLAIN_CONVS and part in ("kernel", "bias"):
            prefix = _PLAIN_CONVS[number]
            yield (f"{prefix}.weight", kernel_of(value)) if part == "kernel" else (f"{prefix}.bias", value)
        elif kind == "batch_normalization" and number in norms and part in _PARTS:
            yield f"{norms[number]}.{_PARTS[part]}", value
        elif kind == "dense" and number in _DENSE and part in ("kernel", "bias"):
            prefix = _DENSE[number]
            yield (f"{prefix}.weight", value.T.contiguous()) if part == "kernel" else (f"{prefix}.bias", value)
        elif kind == "multi_head_attention" and number == 0:
            yield from _linear("query_generation.attention", part, value)
        elif kind == "bidirectional" and number == 0:
            yield from _of_cell(part, value)


def _of_block(match: re.Match[str], value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Of the transformer: attentions, feed-forward networks, and the normalisation after each."""
    room, number, layer, norm, part = match[1].lower(), int(match[2]) - 1, match[3], match[4], match[5]
    prefix = f"transformer.{room}.{number}"
    step = {"MultiHeadSelfAttention": 0, "MultiHeadQueryAttention": 1, "FeedForward": 2 if room == "decoder" else 1}
    if norm and part in ("gamma", "beta"):
        yield f"{prefix}.norms.{step[layer]}.{_PARTS[part]}", value
    elif not norm:
        names = {
            "MultiHeadSelfAttention": "attention" if room == "encoder" else "self_attention",
            "MultiHeadQueryAttention": "cross_attention",
            "FeedForward": "feed_forward",
        }
        yield from _linear(f"{prefix}.{names[layer]}", part, value)


def _linear(prefix: str, part: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """W and b of a letter or a number."""
    if re.fullmatch(r"[Wb][qkvo12]", part):
        name = f"{prefix}.{_LETTERS[part[1]]}"
        yield (f"{name}.weight", value.T.contiguous()) if part[0] == "W" else (f"{name}.bias", value)


def _of_cell(part: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Of the recurrent cells."""
    direction, _, array = part.partition("_gru/")
    ours = {"kernel": "inputs.weight", "recurrent_kernel": "recurrent", "bias": "inputs.bias"}
    if direction in ("forward", "backward") and array in ours:
        yield f"text.{direction}_cell.{ours[array]}", value if array == "bias" else value.T.contiguous()
