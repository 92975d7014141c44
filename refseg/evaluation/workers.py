"""The processes that read pictures and prepare batches, watched: one that is killed is an error in a line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from refseg.errors import RefsegError

__all__ = ["WorkerError", "watched"]

T = TypeVar("T")
_HINTS = {
    "SIGKILL": "; mostly the system does so for want of memory: fewer workers, or fewer pictures in a batch",
    "SIGBUS": "; mostly /dev/shm is full: enlarge it (docker run --shm-size), or use no workers",
}


class WorkerError(RefsegError):
    """A process that reads pictures or prepares batches is gone."""


def watched(loader: DataLoader[T]) -> Generator[T, None, None]:
    """The items of a loader; its processes end with the generator.

    Raises `WorkerError` when one of the processes was killed.
    """
    items: Any = iter(loader)
    before = _quiet_children()
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                # The loader notices by itself, or on opening what the process that is gone wanted to hand over.
                if (reason := _how_ended(items)) is None:
                    raise
                raise WorkerError(reason) from error
            yield item
    finally:
        _end(items)
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _quiet_children() -> Any:
    """Switch off the handler of SIGCHLD, and return it: torch's raises an error for a dead worker wherever the program
    is, in the middle of an optimiser step too. Without it the loop learns of it when it waits for a batch."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _end(items: Any) -> None:
    """End the workers of a loader now: those of training ignore SIGTERM, so that Python's exit, which sends it to
    whatever workers an error keeps alive and waits for them, would wait for ever."""
    if hasattr(items, "_shutdown_workers"):
        items._shutdown_workers()
        for worker in items._workers:
            if worker.is_alive():
                worker.kill()


def _how_ended(items: Any) -> str | None:
    """Which worker ended, and of what; None where all of them live."""
    workers = getattr(items, "_workers", [])
    for worker in workers:  # a connection is gone a moment before the process is
        worker.join(0.2)
    ended = [(worker.pid, worker.exitcode) for worker in workers if worker.exitcode not in (None, 0)]
    if not ended:
        return None
    pid, code = ended[0]
    names = {-number: number.name for number in signal.Signals}
    how = f"was ended by {names[code]}" if code in names else f"ended with code {code}"
    return f"a process that prepares pictures ({pid}) {how}{_HINTS.get(names.get(code, ''), '')}"
