"""The phrases of sentences as texts, boxes and masks of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refseg.data.sample import Instance, Phrase, Sample
from refseg.data.transforms import place_boxes
from refseg.errors import DataError
from refseg.geometry import Geometry
from refseg.types import Phrases

__all__ = ["PlacePhrases", "enclosing_boxes", "phrase_boxes", "phrase_masks", "phrases_of"]


@runtime_checkable
class PlacePhrases(Protocol):
    """Phrases as tokens with their places among the expressions' tokens; it knows the kinds of tokenizers."""

    def __call__(
        self,
        texts: Sequence[str],
        phrases: Sequence[Sequence[str | tuple[int, int]]],
        tokenizer: Any,
        *,
        max_phrases: int | None = None,
    ) -> Phrases:
        """B expressions, at most `max_phrases` phrases of each, by their characters (start, stop) or as text that is
        searched; raises `RefsegError` for one that is not in its expression."""
        ...


def phrases_of(sample: Sample, most: int) -> list[str | tuple[int, int]]:
    """Where up to `most` phrases that have objects stand: characters (start, stop) of the expression; the whole
    expression where there is none.

    Raises `DataError` where a phrase's text is not at its characters, but for upper and lower case.
    """
    places: list[str | tuple[int, int]] = []
    for phrase in _phrases_of(sample, most):
        there = sample.text[max(phrase.start, 0) : max(phrase.stop, 0)]
        if there.casefold() != phrase.text.casefold():
            raise DataError(
                f"sample {sample.id}: the phrase {phrase.text!r} is not at characters {phrase.start} to {phrase.stop} "
                f"of {sample.text!r}, where {there!r} stands; correct its start and stop"
            )
        places.append((phrase.start, phrase.stop))
    return places


def _phrases_of(sample: Sample, most: int) -> list[Phrase]:
    known = [phrase for phrase in sample.phrases if phrase.objects][:most]
    return known or [Phrase(sample.text, 0, len(sample.text), sample.objects)]


def phrase_boxes(samples: Sequence[Sample], geometries: Sequence[Geometry], most: int) -> Float[Tensor, "B P 4"]:
    """The box around the objects of each phrase, cxcywh; zeros where none is."""
    boxes = torch.zeros(len(samples), most, 4)
    for row, (sample, geometry) in enumerate(zip(samples, geometries, strict=True)):
        for column, phrase in enumerate(_phrases_of(sample, most)):
            alone = replace(sample, objects=phrase.objects, no_target=not phrase.objects)
            boxes[row, column] = enclosing_boxes([alone], [geometry])[0, 0]
    return boxes


def phrase_masks(
    samples: Sequence[Sample],
    target_masks: Sequence[Sequence[Bool[Tensor, "H W"]]],
    empty: Bool[Tensor, "H W"],
    most: int,
) -> list[Tensor] | None:
    """For each expression the masks of its phrases, (K, H, W); None when some object has a box only."""
    if any(item.segmentation is None for sample in samples for item in sample.objects):
        return None
    result = []
    for sample, own in zip(samples, target_masks, strict=True):
        mask_of = {(item.ann_id, item.bbox): mask for item, mask in zip(sample.objects, own, strict=True)}
        masks = [[mask_of[item.ann_id, item.bbox] for item in phrase.objects] for phrase in _phrases_of(sample, most)]
        result.append(torch.stack([torch.stack(each).any(dim=0) if each else empty for each in masks]))
    return result


def enclosing_boxes(samples: Sequence[Sample], geometries: Sequence[Geometry]) -> Float[Tensor, "B 1 4"]:
    """For each sample the box around all its targets, cxcywh in 0 to 1."""
    rows = []
    for sample, geometry in zip(samples, geometries, strict=True):
        if not sample.objects:
            rows.append(torch.zeros(1, 4))
            continue
        boxes = sample.boxes()
        around = (*(float(v) for v in boxes[:, :2].min(axis=0)), *(float(v) for v in boxes[:, 2:].max(axis=0)))
        whole = Instance(-1, "", (around[0], around[1], around[2], around[3]))
        rows.append(place_boxes(replace(sample, objects=(whole,)), geometry))
    return torch.stack(rows)
