"""Authors' checkpoints: published names to ours by ordered rules, a strict fit that reports in the publisher's names,
and what several systems' checkpoints have in common (BERT, ResNet, Swin with LAVT's language, packed attention)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import CheckpointError, ConfigError

__all__ = [
    "Rule",
    "bert_config",
    "convert",
    "count",
    "fit",
    "language_swin_rules",
    "learned",
    "reading",
    "rename",
    "resnet_config",
    "resnet_rules",
    "split_attention",
    "swin_config",
    "without_kernels",
]

Rule = tuple[str, str]
"""A regular expression that matches a whole published name, and our name with \\1, \\2 for its groups."""


# Tables of positions, which follow from the sizes; publishers stored them as integers, some converters as floats.
_DERIVED = ("relative_position_index", "position_ids", "num_batches_tracked")


def learned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that hold something learned: no integer buffers, and no tables that follow from the sizes."""
    return {
        name: value
        for name, value in state.items()
        if value.is_floating_point() and name.rpartition(".")[2] not in _DERIVED
    }


def rename(names: Sequence[str], rules: Sequence[Rule]) -> tuple[dict[str, str], list[str]]:
    """Published name -> ours by the first rule that matches, and the names that no rule explains."""
    compiled = [(re.compile(pattern), ours) for pattern, ours in rules]
    renamed: dict[str, str] = {}
    unexplained = []
    for name in names:
        for pattern, ours in compiled:
            match = pattern.fullmatch(name)
            if match:
                renamed[name] = match.expand(ours)
                break
        else:
            unexplained.append(name)
    return renamed, unexplained


def convert(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    rules: Sequence[Rule],
    parts: Callable[[str, Tensor], dict[str, Tensor]],
) -> nn.Module:
    """The model with published `tensors` under our names, in eval mode; `parts` gives our tensors for a renamed one.

    Raises `CheckpointError` as `fit` does.
    """
    names, unexplained = rename(list(tensors), rules)
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for published, name in names.items():
        for key, value in parts(name, tensors[published]).items():
            ours[key], origin[key] = value, published
    fit(model, ours, origin, unexplained)
    return model.eval()


def fit(model: nn.Module, tensors: Mapping[str, Tensor], origin: Mapping[str, str], unexplained: Sequence[str]) -> None:
    """Load `tensors` (our names) strictly but for the counters of batch normalisations, which nothing needs; `origin`
    gives the published name of each, for the error."""
    own = model.state_dict()
    tensors = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")} | dict(tensors)
    problems = []
    strangers = [*unexplained, *(origin.get(name, name) for name in tensors if name not in own)]
    if strangers:
        problems.append(f"unexplained: {_listed(strangers)}")
    missing = [name for name in own if name not in tensors]
    if missing:
        problems.append(f"not in the checkpoint (our names): {_listed(missing)}")
    for name, value in tensors.items():
        if name in own and value.shape != own[name].shape:
            published = origin.get(name, name)
            problems.append(f"{published} is {tuple(value.shape)}, wanted {tuple(own[name].shape)}")
    if problems:
        raise CheckpointError("the checkpoint does not fit: " + "; ".join(problems[:12]))
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in tensors.items()}, strict=True)


@contextmanager
def reading(system: str) -> Iterator[None]:
    """A block that reads a configuration off names and shapes: what is missing or does not fit is `CheckpointError`."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"not a checkpoint of {system}: {error.args[0]} is not in it") from error
    except (ConfigError, IndexError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"not a checkpoint of {system}: its sizes do not fit together ({error})") from error


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers follow `prefix` in the names."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return len({number for number in numbers if number.isdigit()})


def split_attention(name: str, value: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values of torch's packed attention under the names of `refseg.nn.attention.Attention`."""
    stem, _, last = name.rpartition(".")
    if last in ("in_proj_weight", "in_proj_bias"):
        pieces = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{stem}.{part}.{last.removeprefix('in_proj_')}": piece for part, piece in pieces}
    return {name.replace(".out_proj.", ".output."): value}


def bert_config(
    state: Mapping[str, Tensor], prefix: str, max_words: int, heads: int | None, **fields: Any
) -> BertTextConfig:
    """The sizes of a BERT whose names begin with `prefix`; `heads` None is one for each 64 channels, as published."""
    words = state[f"{prefix}embeddings.word_embeddings.weight"]
    return BertTextConfig(
        vocabulary_size=len(words),
        max_words=max_words,
        width=words.shape[1],
        layers=count(state, f"{prefix}encoder.layer."),
        heads=heads or words.shape[1] // 64,
        feedforward=len(state[f"{prefix}encoder.layer.0.intermediate.dense.bias"]),
        positions=len(state[f"{prefix}embeddings.position_embeddings.weight"]),
        **fields,
    )


def swin_config(state: Mapping[str, Tensor], prefix: str) -> SwinConfig:
    """The sizes of a Swin transformer whose names begin with `prefix`, under its authors' names."""
    tables = [state[f"{prefix}layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in range(4)]
    width = len(state[f"{prefix}patch_embed.proj.bias"])
    first, second, third, fourth = (count(state, f"{prefix}layers.{stage}.blocks.") for stage in range(4))
    return SwinConfig(
        embed_dim=width,
        depths=(first, second, third, fourth),
        heads=(tables[0].shape[1], tables[1].shape[1], tables[2].shape[1], tables[3].shape[1]),
        window=(math.isqrt(len(tables[0])) + 1) // 2,
        mlp_ratio=len(state[f"{prefix}layers.0.blocks.0.mlp.fc1.bias"]) / width,
        qkv_bias=f"{prefix}layers.0.blocks.0.attn.qkv.bias" in state,
    )


def language_swin_rules(prefix: str) -> list[Rule]:
    """Rules for a Swin transformer behind `prefix` (a regular expression) into `vision`, and for the pixel-word
    attention and gates of LAVT's code into `language_stages`, whose kernels of size 1 are matrices here."""
    stage = prefix + r"layers\.(\d+)\."
    fusion = stage + r"fusion\."
    return [
        (prefix + r"(patch_embed\..+|norm[0-3]\..+|layers\.\d+\.(?:blocks|downsample)\..+)", r"vision.\1"),
        (fusion + r"vis_project\.0\.(\w+)", r"language_stages.fusions.\1.vision.\2"),
        (fusion + r"image_lang_att\.f_(query|key|value)\.0\.(\w+)", r"language_stages.fusions.\1.\2.\3"),
        (fusion + r"image_lang_att\.W\.0\.(\w+)", r"language_stages.fusions.\1.gathered.\2"),
        (fusion + r"project_mm\.0\.(\w+)", r"language_stages.fusions.\1.output.\2"),
        (stage + r"res_gate\.0\.weight", r"language_stages.gates.\1.inner.weight"),
        (stage + r"res_gate\.2\.weight", r"language_stages.gates.\1.outer.weight"),
    ]


def without_kernels(name: str, value: Tensor) -> dict[str, Tensor]:
    """A tensor of `language_stages`: convolutions of kernel 1 over a row of tokens are matrices here."""
    return {name: value[..., 0] if value.ndim == 3 else value}


def resnet_config(
    state: Mapping[str, Tensor], prefix: str, naming: Literal["detectron2", "torchvision"], dilated: bool = False
) -> ResNetConfig:
    """The sizes of a ResNet of bottlenecks whose names begin with `prefix`."""
    stem = "stem." if naming == "detectron2" else ""
    stages = [f"{prefix}res{n + 2}." if naming == "detectron2" else f"{prefix}layer{n + 1}." for n in range(4)]
    widths, depths = [len(state[f"{each}0.conv3.weight"]) for each in stages], [count(state, each) for each in stages]
    return ResNetConfig(
        widths=(widths[0], widths[1], widths[2], widths[3]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        stem_width=len(state[f"{prefix}{stem}conv1.weight"]),
        dilated=dilated,
    )


def resnet_rules(prefix: str, naming: Literal["detectron2", "torchvision"]) -> list[Rule]:
    """Rules for a ResNet of bottlenecks behind `prefix` (a regular expression) into `vision`.

    detectron2: res2.0.conv1.weight, res2.0.conv1.norm.bias, res2.0.shortcut.weight. torchvision: layer1.0.conv1.weight,
    layer1.0.bn1.bias, layer1.0.downsample.0.weight.
    """
    if naming == "detectron2":
        rules = [
            (prefix + r"stem\.conv1\.weight", "vision.stem.0.conv.weight"),
            (prefix + r"stem\.conv1\.norm\.(\w+)", r"vision.stem.0.norm.\1"),
        ]
    else:
        rules = [
            (prefix + r"conv1\.weight", "vision.stem.0.conv.weight"),
            (prefix + r"bn1\.(\w+)", r"vision.stem.0.norm.\1"),
        ]
    for stage in range(4):
        ours = rf"vision.stages.{stage}.\1."
        block = prefix + (rf"res{stage + 2}\.(\d+)\." if naming == "detectron2" else rf"layer{stage + 1}\.(\d+)\.")
        for number in range(3):
            norm = rf"conv{number + 1}\.norm" if naming == "detectron2" else f"bn{number + 1}"
            rules += [
                (block + rf"conv{number + 1}\.weight", ours + f"convs.{number}.conv.weight"),
                (block + norm + r"\.(\w+)", ours + rf"convs.{number}.norm.\2"),
            ]
        short = (r"shortcut", r"shortcut\.norm") if naming == "detectron2" else (r"downsample\.0", r"downsample\.1")
        rules += [
            (block + short[0] + r"\.weight", ours + "shortcut.conv.weight"),
            (block + short[1] + r"\.(\w+)", ours + r"shortcut.norm.\2"),
        ]
    return rules


def _listed(names: Sequence[str], most: int = 40) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
