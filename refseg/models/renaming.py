"""Authors' checkpoints: published names to ours by ordered rules, a strict fit that reports in the publisher's names,
and what several systems' checkpoints have in common (BERT, ResNet, packed attention)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.errors import CheckpointError, ConfigError

__all__ = [
    "Rule",
    "bert_config",
    "convert",
    "count",
    "fit",
    "learned",
    "reading",
    "rename",
    "resnet_config",
    "resnet_rules",
    "split_attention",
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
    """Load `tensors` (our names) strictly; `origin` gives the published name of each, for the error."""
    own = model.state_dict()
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
