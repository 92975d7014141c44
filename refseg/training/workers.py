"""The processes that prepare batches of a run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from torch.utils.data import DataLoader, Dataset

from refseg.errors import DataError, RefsegError
from refseg.evaluation.workers import WorkerError, watched
from refseg.training.interrupt import ignore_interrupts
from refseg.types import Batch, Targets

__all__ = ["WorkerError", "prepared"]


def prepared(pieces: Dataset, numbers: Sequence[int], workers: int) -> Generator[tuple[Batch, Targets], None, None]:
    """The pieces of these numbers in order, prepared by `workers` processes (0: by this one), which are ended with the
    generator.

    Raises `DataError` for what cannot be read, and `WorkerError` when one of the processes was killed.
    """
    loader: DataLoader = DataLoader(
        _Told(pieces),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        worker_init_fn=ignore_interrupts,
        collate_fn=_as_it_is,
    )
    with closing(watched(loader)) as items:
        for item in items:
            if isinstance(item, RefsegError):
                raise item
            yield item


class _Told(Dataset):
    """Pieces, with an error of the data in the place of one: raised in a worker, it would come out as its whole
    traceback in one string."""

    def __init__(self, pieces: Dataset) -> None:
        self.pieces = pieces

    def __getitem__(self, number: int) -> tuple[Batch, Targets] | RefsegError:
        try:
            return self.pieces[number]
        except RefsegError as error:
            return DataError(str(error))


def _as_it_is(item: Any) -> Any:
    return item
