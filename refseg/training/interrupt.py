"""What ends a run before its last step: signals, and errors of which a person can mend the cause.

The first SIGTERM, SIGINT or SIGHUP ends it after the current step, a second SIGINT at once.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from refseg.errors import RefsegError

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
]  # Windows has no SIGHUP


class Interrupt:
    """While entered, `signal` is the number of the signal that asked the run to stop, or 0."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in _SIGNALS:
            try:
                before = signal.signal(number, self._asked)
            except ValueError:  # not the main thread: whoever runs the loop there has signals of its own
                break
            self._before[number] = before
            if before is signal.SIG_IGN and number != signal.SIGINT:  # nohup: whoever ignores it means to go on
                signal.signal(number, before)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def ignore_interrupts(worker: int) -> None:
    """For the data workers: Ctrl-C, a closed terminal and torchrun's SIGTERM reach them too, but the loop decides when
    they end (`refseg.training.source.Batches.iterate`)."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def reason_of(error: Exception, folder: Path) -> str | None:
    """Why a run cannot go on, in a line; None for an error of the program itself. `folder` is the run's."""
    if isinstance(error, RefsegError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or folder}: {error.strerror or error}"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "out of memory: fewer data.pictures_per_batch, or more training.accumulation"
    return None
