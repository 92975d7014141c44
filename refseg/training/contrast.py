"""Batches for learning between samples: a sentence, others about its object, others about its picture, and the rest.

Ding et al., VLT, TPAMI 2022, section "masked contrastive learning" (figure 4.11 of Chang Liu's thesis).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

from refseg.data.sample import Sample
from refseg.training.order import Order, choose

__all__ = ["Composition", "compose"]


@runtime_checkable
class Composition(Protocol):
    """What of a model's configuration decides how batches are made."""

    @property
    def compose(self) -> bool:
        """Whether they are made here."""

    @property
    def same_object(self) -> int:
        """Most further sentences about the initial sample's objects."""

    @property
    def other_object(self) -> float:
        """Most sentences about other objects of its picture, as a share of the batch."""

    @property
    def frames(self) -> int:
        """Of a video: how many frames before and after count as its picture for those."""


def compose(
    pictures: Any, order: Order, seed: int, share: Sequence[int], sentences: int, config: Composition
) -> list[Sample]:
    """The samples of a piece of a batch, the initial one first; `share` are its places in the stream of pictures.

    There are `sentences` times as many samples as places, fewer where pictures have fewer. The first place's picture
    gives the initial sample, which has a target if any sentence there has one; the others give what is left to fill.
    """
    total = len(share) * sentences
    item = order.item(share[0])
    known = pictures.samples(item)
    shuffled = [known[index] for index in choose(seed, share[0], len(known), len(known))]
    shuffled.sort(key=lambda sample: not sample.objects)
    first, *further = shuffled
    meant = _objects(first)
    same = [sample for sample in further if sample.objects and _objects(sample) == meant]
    others = [sample for sample in further if sample.objects and _objects(sample) != meant]
    for distance in range(1, config.frames + 1):
        for neighbour in (item - distance, item + distance):
            found = _neighbours(pictures, neighbour, first)
            others += [sample for sample in found if sample.objects and _objects(sample) != meant]
    chosen = [first, *same[: config.same_object], *others[: round(config.other_object * total)]][:total]
    for place in share[1:]:
        samples = pictures.samples(order.item(place))
        picked = choose(seed, place, len(samples), min(sentences, total - len(chosen)))
        chosen += [samples[index] for index in picked]
    return chosen


def _objects(sample: Sample) -> Hashable:
    return frozenset(item.ann_id for item in sample.objects)


def _neighbours(pictures: Any, item: int, first: Sample) -> list[Sample]:
    """The samples of a frame beside the first one's, nothing where that is of another video or no file at all."""
    if first.image_path is None or not 0 <= item < (pictures.count or 0):
        return []
    samples = pictures.samples(item)
    beside = samples and samples[0].image_path is not None and samples[0].image_path.parent == first.image_path.parent
    return samples if beside else []
