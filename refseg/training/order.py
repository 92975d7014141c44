"""Which pictures and sentences step n reads: a pure function of the seed and the step.

So a resumed run needs no state of a sampler, any number of workers and processes reads the same batches, and two runs
of one recipe see the same data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from refseg.errors import ConfigError


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
