"""The progress bar of everything that takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


LINES = 30.0
"""Seconds between the lines of `progress` where there is no terminal."""


@contextmanager
def progress(
    what: str, *, transient: bool = True, console: Console | None = None, lines: bool = False
) -> Iterator[Callable[..., None]]:
    """A bar on standard error where that is a terminal; yields `update(done, total, what)`, total None while unknown.

    `what` says what is being done, and may change with an update; `transient` bars vanish in the end. Lines printed on
    `console` appear above the bar. With `lines`, a log gets a line every `LINES` seconds.
    """
    if lines and not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, transient=transient, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what=what: bar.update(task, completed=done, total=total, description=what)


def _lines(what: str) -> Callable[..., None]:
    """`update` for a log: what is done, of how much, and how much longer it takes at the speed so far."""
    start = last = time.monotonic()
    first: int | None = None

    def update(done: int, total: int | None, what: str = what) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done if first is None else first  # what an earlier run has done took no time
        if now - last < LINES:
            return
        last = now
        speed = (done - first) / (now - start)
        left = f", {_duration((total - done) / speed)} left" if total is not None and speed > 0 else ""
        print(f"{what}: {done:,} of {total:,}{left}" if total else f"{what}: {done:,}", file=sys.stderr, flush=True)

    return update


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each file on standard error where that is a terminal; yields `update(path, done, total)` in bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, TaskID] = {}

        def update(path: str, done: int, total: int | None) -> None:
            if path not in tasks:
                tasks[path] = bar.add_task(PurePath(path).name, total=total)
            bar.update(tasks[path], completed=done, total=total)

        yield update
