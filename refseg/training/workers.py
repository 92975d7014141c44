"""The processes that prepare batches: begun, watched and ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from refseg.errors import DataError, RefsegError
from refseg.training.interrupt import ignore_interrupts
from refseg.types import Batch, Targets

__all__ = ["WorkerError", "prepared"]

_HINTS = {
    "SIGKILL": "; mostly the system does so for want of memory: lower data.workers or data.pictures_per_batch",
    "SIGBUS": "; mostly /dev/shm is full: enlarge it (docker run --shm-size), or set data.workers=0",
}


class WorkerError(RefsegError):
    """A process that prepares batches is gone."""


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
    items: Any = iter(loader)
    before = _quiet_children()
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader worker"):
                    raise
                raise WorkerError(_how_ended(items)) from error
            if isinstance(item, RefsegError):
                raise item
            yield item
    finally:
        _end(items)
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


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


def _quiet_children() -> Any:
    """Switch off the handler of SIGCHLD, and return it: torch's raises an error for a dead worker wherever the loop is,
    in the middle of an optimiser step too. Without it the loop learns of it when it waits for a batch."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _end(items: Any) -> None:
    """End the workers of a loader now: they ignore SIGTERM, so that Python's exit, which sends it to whatever workers
    an error keeps alive and waits for them, would wait for ever."""
    if hasattr(items, "_shutdown_workers"):
        items._shutdown_workers()
        for worker in items._workers:
            if worker.is_alive():
                worker.kill()


def _how_ended(items: Any) -> str:
    """Which worker ended, and of what."""
    ended = [(worker.pid, worker.exitcode) for worker in items._workers if worker.exitcode not in (None, 0)]
    pid, code = ended[0] if ended else (0, 0)
    names = {-number: number.name for number in signal.Signals}
    how = f"was ended by {names[code]}" if code in names else f"ended with code {code}"
    return f"a process that prepares batches ({pid}) {how}{_HINTS.get(names.get(code, ''), '')}"
