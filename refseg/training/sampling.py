"""Which pictures and expressions step n reads: a pure function of the seed and the step.

So a resumed run needs no state of a sampler, any number of workers and processes reads the same batches, and two runs
of one recipe see the same data. `compose` makes batches for losses between expressions: Ding et al., VLT, TPAMI 2022,
section "masked contrastive learning" (figure 4.11 of Chang Liu's thesis).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from refseg.data.sample import Sample
from refseg.errors import ConfigError
from refseg.types import ContrastNeeds


@runtime_checkable
class Pictures(Protocol):
    """Pictures by number, each with its expressions. `count` is None when they never end; `notice` is for people."""

    count: int | None
    notice: str

    def samples(self, index: int) -> list[Sample]:
        """One sample an expression of picture `index`."""

    def texts(self) -> Iterable[str]:
        """Expressions that a vocabulary is learnt from."""


class Order:
    """The stream of item numbers: endless when `count` is None, else one shuffle of all items after the other."""

    def __init__(self, count: int | None, seed: int) -> None:
        if count is not None and count < 1:
            raise ConfigError("data: the data set is empty; check data.root, data.dataset and data.split")
        self.count = count
        self.seed = seed

    def item(self, position: int) -> int:
        """The item at `position` (from 0) of the stream."""
        if self.count is None:
            return position
        epoch, place = divmod(position, self.count)
        return int(_shuffle(self.seed, epoch, self.count)[place])


@lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 0]).permutation(count)


def choose(seed: int, position: int, available: int, wanted: int) -> list[int]:
    """`wanted` of the numbers below `available` without repetition (all of them if fewer) for a place in the stream."""
    return [int(n) for n in np.random.default_rng([seed, position, 1]).permutation(available)[:wanted]]


def choose_balanced(seed: int, position: int, kinds: list[str], wanted: int) -> list[int]:
    """As `choose` from as many numbers as there are `kinds`, but kind after kind in turn, each as long as it lasts."""
    order = np.random.default_rng([seed, position, 1])
    groups: dict[str, list[int]] = {}
    for index in order.permutation(len(kinds)):
        groups.setdefault(kinds[index], []).append(int(index))
    names = [sorted(groups)[int(n)] for n in order.permutation(len(groups))]
    turns = [groups[name][turn] for turn in range(len(kinds)) for name in names if turn < len(groups[name])]
    return turns[:wanted]


def positions(step: int, piece: int, pieces: int, batch: int) -> range:
    """The places in the stream that one piece of the batch of `step` holds; the pieces together are the batch.

    `pieces` is the number of processes times the accumulation steps and divides `batch`.
    """
    share = batch // pieces
    start = step * batch + piece * share
    return range(start, start + share)


def check_pieces(batch: int, processes: int, accumulation: int) -> None:
    """Raises `ConfigError` when a batch cannot be cut evenly."""
    if batch % (processes * accumulation):
        raise ConfigError(
            f"data.pictures_per_batch: {batch} pictures cannot be shared evenly among {processes} processes times "
            f"training.accumulation = {accumulation}"
        )


def compose(
    pictures: Pictures, order: Order, seed: int, share: Sequence[int], sentences: int, needs: ContrastNeeds
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
    targets = _objects(first)
    same = [sample for sample in further if sample.objects and _objects(sample) == targets]
    others = [sample for sample in further if sample.objects and _objects(sample) != targets]
    for distance in range(1, needs.frames + 1):
        for neighbour in (item - distance, item + distance):
            beside = _neighbours(pictures, neighbour, first)
            others += [sample for sample in beside if sample.objects and _objects(sample) != targets]
    chosen = [first, *same[: needs.same_object], *others[: round(needs.other_object * total)]][:total]
    for place in share[1:]:
        samples = pictures.samples(order.item(place))
        picked = choose(seed, place, len(samples), min(sentences, total - len(chosen)))
        chosen += [samples[index] for index in picked]
    return chosen


def _objects(sample: Sample) -> Hashable:
    return frozenset(item.ann_id for item in sample.objects)


def _neighbours(pictures: Pictures, item: int, first: Sample) -> list[Sample]:
    """The samples of a frame beside the first one's, nothing where that is of another video or no file at all."""
    if first.image_path is None or not 0 <= item < (pictures.count or 0):
        return []
    samples = pictures.samples(item)
    beside = samples and samples[0].image_path is not None and samples[0].image_path.parent == first.image_path.parent
    return samples if beside else []
