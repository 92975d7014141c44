"""The central types: what travels between the rooms of the package.

Masks are True where something is real: a real word, a real pixel (not padding), a target's pixel. Letters in the
shapes: B sentences, N pictures (N = B unless `Batch.picture` says which sentence belongs to which picture), L word
slots, H W the network's input size, h w the size of a feature map, C channels, P phrases of one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from refseg.inference.segmentation import Geometry, Segmentation

__all__ = [
    "Batch",
    "Geometry",
    "Output",
    "Phrases",
    "Segmentation",
    "Targets",
    "TextFeatures",
    "Tokens",
    "VisualFeatures",
]


class _Movable:
    """Adds `.to(device)` to a dataclass whose fields are tensors, such dataclasses, dicts of them, or anything else."""

    def to(self, device: torch.device | str) -> Any:
        """The same object with every tensor on `device`."""
        values = {item.name: _move(getattr(self, item.name), device) for item in fields(self)}  # type: ignore[arg-type]
        return type(self)(**values)


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, (Tensor, _Movable)):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_move(item, device) for item in value)
    return value


@dataclass(frozen=True)
class Tokens(_Movable):
    """Sentences as vocabulary numbers; `mask` is True on real words."""

    ids: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Phrases(_Movable):
    """Up to P phrases of each sentence, tokenised on their own, and where each stands in the sentence's tokens.

    `mask` is True where a phrase is real; `start` and `stop` (exclusive) are token bounds inside the sentence.
    """

    ids: Int[Tensor, "B P K"]
    word_mask: Bool[Tensor, "B P K"]
    start: Int[Tensor, "B P"]
    stop: Int[Tensor, "B P"]
    mask: Bool[Tensor, "B P"]


@dataclass(frozen=True)
class Batch(_Movable):
    """What a model reads: normalised pictures, which of their pixels are real, and sentences.

    `picture[b]` is the picture of sentence b, so that one picture with many sentences is stored and encoded once;
    None means that sentence b belongs to picture b.
    """

    images: Float[Tensor, "N 3 H W"]
    pixel_mask: Bool[Tensor, "N H W"]
    tokens: Tokens
    phrases: Phrases | None = None
    picture: Int[Tensor, " B"] | None = None

    def expanded(self) -> Batch:
        """The same batch with one picture a sentence (for models that fuse language into the picture encoder)."""
        if self.picture is None:
            return self
        return Batch(self.images[self.picture], self.pixel_mask[self.picture], self.tokens, self.phrases)


@dataclass(frozen=True)
class Targets(_Movable):
    """What a sentence means: the union of its targets at the network's input size, and whether there is none.

    `boxes` are cxcywh, 0 to 1 of the picture without padding (RefTR: one a phrase). `instances[b]` holds the targets'
    masks one by one, or one a phrase, "K H W", when a loss needs them apart. `tags` says of each picture at a quarter
    of its size where each of T words holds ("red", "person"), for losses on what a picture shows whatever the sentence.
    """

    masks: Bool[Tensor, "B H W"]
    no_target: Bool[Tensor, " B"]
    boxes: Float[Tensor, "B P 4"] | None = None
    instances: list[Tensor] | None = None
    tags: Bool[Tensor, "N T h w"] | None = None
    groups: Int[Tensor, "B 2"] | None = None
    """For losses between sentences: a number for the objects that are meant, equal for sentences about the same ones
    (each sentence without target has its own), and a number for the picture."""


@dataclass(frozen=True)
class VisualFeatures(_Movable):
    """Feature maps by stride ({4: "B C h w", 8: ...}), and which input pixels are real ("B H W")."""

    maps: dict[int, Shaped[Tensor, ...]]
    mask: Bool[Tensor, "B H W"]


@dataclass(frozen=True)
class TextFeatures(_Movable):
    """One vector a word, one a sentence, and which words are real."""

    words: Float[Tensor, "B L C"]
    sentence: Float[Tensor, "B C"]
    mask: Bool[Tensor, "B L"]


@dataclass(frozen=True)
class Output(_Movable):
    """What every system answers, the same in training and in evaluation.

    `mask_logits` > 0 is foreground; `no_target_logits` > 0 says that nothing is meant. `boxes` are cxcywh, 0 to 1 of
    the picture without padding. `auxiliary` holds what one system alone has: minimap logits, attention, grids, the
    predictions of earlier layers.
    """

    mask_logits: Float[Tensor, "B h w"]
    no_target_logits: Float[Tensor, " B"] | None = None
    boxes: Float[Tensor, "B P 4"] | None = None
    auxiliary: dict[str, Any] = field(default_factory=dict)
