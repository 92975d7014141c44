"""Room on the disk: looked for before much is written, and named where it ran out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from refseg.apps.annotate.database.engine import disk_full
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.settings import Settings

_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written below `folder`, which need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal_of(error: Exception, code: str, message: str | None = None, field: str | None = None) -> GameError:
    """The refusal to answer with where the toolkit raised an error: a full disk as such, others with `code`."""
    if isinstance(error, GameError):
        return error
    return disk_full() if is_full(error) else GameError(code, message or str(error), field)


def check_room(settings: Settings, more: int = 0) -> None:
    """Raises `GameError` "disk_full" unless `more` bytes in the data folder leave the reserve free."""
    if free_bytes(settings.data) - more < settings.disk_reserve:
        raise disk_full()
