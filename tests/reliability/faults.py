"""Faults at any operation on files: the n-th is the last thing that a process does, or finds the disk full.

Python's audit events come before what they tell of, so that whatever changes a file below a folder can be counted and
stopped: opening for writing, making folders, renaming, linking, deleting.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WRITING = {"os.mkdir", "os.rename", "os.link", "os.symlink"}
_DELETING = {"os.remove", "os.rmdir", "os.chmod"}
_active: list[FileOperations] = []


class FileOperations:
    """Counts the operations on names below `folder`; at the operation `at` (from 1) it fails as a full disk does, or
    the process is killed."""

    def __init__(self, folder: Path, at: int = 0, kill: bool = False) -> None:
        self.folder, self.at, self.kill, self.count = os.path.realpath(folder), at, kill, 0

    def seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event."""
        writes = event in _WRITING or (event == "open" and _writes(arguments))
        if not writes and not (self.kill and event in _DELETING):
            return
        if not any(isinstance(name, (str, os.PathLike)) and self._below(name) for name in arguments[:2]):
            return
        self.count += 1
        if self.count == self.at:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    def _below(self, name: str | os.PathLike[str]) -> bool:
        path = os.path.abspath(os.fspath(name))
        return path == self.folder or path.startswith(self.folder + os.sep)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for watched in _active:
        watched.seen(event, arguments)


@contextmanager
def watching(folder: Path, at: int = 0, kill: bool = False) -> Iterator[FileOperations]:
    """`FileOperations` in the block."""
    if not _INSTALLED:
        sys.addaudithook(_hook)  # which cannot be taken away again
        _INSTALLED.append(True)
    watched = FileOperations(folder, at, kill)
    _active.append(watched)
    try:
        yield watched
    finally:
        _active.remove(watched)


_INSTALLED: list[bool] = []
