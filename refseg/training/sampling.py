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

_LEAST = 3
"""Expressions of a piece that a loss between samples can learn from: the initial one, a positive and a negative."""


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


def check_composed(batch: int, expressions: int, pieces: int, needs: ContrastNeeds) -> None:
    """Raises `ConfigError` when a batch that is composed for `needs` could never hold a negative sample.

    `batch` pictures with up to `expressions` expressions each are cut into `pieces`, losses between expressions see one
    piece at a time. With `other_object` 0 (figure 4.13 begins there) none is wanted.
    """
    if not needs.other_object:
        return
    total = batch * expressions
    if round(needs.other_object * total) < 1:
        raise ConfigError(
            f"model.inter_sample.other_object: {needs.other_object:g} of a batch of {total} expressions is none, so "
            "that no expression about another object is ever in it; enlarge data.pictures_per_batch, or the share"
        )
    if total // pieces < _LEAST:
        raise ConfigError(
            f"training.accumulation: a batch of {total} expressions in {pieces} pieces (processes times accumulation) "
            f"leaves {total // pieces} a piece; learning between samples wants {_LEAST}, the initial one, one about "
            "its object and one about another; enlarge data.pictures_per_batch, or take fewer pieces"
        )


def compose(
    pictures: Pictures,
    order: Order,
    seed: int,
    places: Sequence[int],
    expressions: int,
    needs: ContrastNeeds,
    piece: int = 0,
    pieces: int = 1,
) -> list[Sample]:
    """The samples of one of the pieces of a batch; `places` are the whole batch's in the stream of pictures.

    The batch has `expressions` times as many samples as places, fewer where pictures have fewer. It begins with the
    group that losses between samples are about: the initial sample (one with a target if any expression of the first
    place's picture has one), others about its objects, and others about its picture, their number a share of the whole
    batch. The other places' pictures give what is left to fill. The group stands in piece 0 as a whole; where it is
    larger than a piece, expressions about the same objects are left out before those about others, but for one.
    """
    total = len(places) * expressions
    group = _group(pictures, order, seed, places[0], total, total // pieces, needs)
    chosen = list(group)
    for place in places[1:]:
        samples = pictures.samples(order.item(place))
        picked = choose(seed, place, len(samples), min(expressions, total - len(chosen)))
        chosen += [samples[index] for index in picked]
    if pieces == 1:
        return chosen
    first = max(len(group), min(-(-len(chosen) // pieces), len(chosen) - (pieces - 1)))
    if piece == 0:
        return chosen[:first]
    rest = chosen[first:]
    bounds = [number * len(rest) // (pieces - 1) for number in (piece - 1, piece)]
    return rest[bounds[0] : bounds[1]]


def _group(
    pictures: Pictures, order: Order, seed: int, place: int, total: int, room: int, needs: ContrastNeeds
) -> list[Sample]:
    """The initial sample of a batch of `total`, others about its objects, others about its picture; at most `room`."""
    item = order.item(place)
    known = pictures.samples(item)
    shuffled = [known[index] for index in choose(seed, place, len(known), len(known))]
    shuffled.sort(key=lambda sample: not sample.objects)
    first, *further = shuffled
    targets = _objects(first)
    same = [sample for sample in further if sample.objects and _objects(sample) == targets][: needs.same_object]
    others = [sample for sample in further if sample.objects and _objects(sample) != targets]
    for distance in range(1, needs.frames + 1):
        for neighbour in (item - distance, item + distance):
            beside = _neighbours(pictures, neighbour, first)
            others += [sample for sample in beside if sample.objects and _objects(sample) != targets]
    others = others[: round(needs.other_object * total)]
    left = max(room, 1) - 1
    negatives = min(len(others), left - (bool(same) and left > 1))
    return [first, *same[: left - negatives], *others[:negatives]]


def _objects(sample: Sample) -> Hashable:
    return frozenset(item.ann_id for item in sample.objects)


def _neighbours(pictures: Pictures, item: int, first: Sample) -> list[Sample]:
    """The samples of a frame beside the first one's, nothing where that is of another video or no file at all."""
    if first.image_path is None or not 0 <= item < (pictures.count or 0):
        return []
    samples = pictures.samples(item)
    beside = samples and samples[0].image_path is not None and samples[0].image_path.parent == first.image_path.parent
    return samples if beside else []
