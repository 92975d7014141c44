"""Files and folders that are whole or absent: written under a temporary name beside the target and renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refseg.errors import RefsegError

__all__ = ["cache_folder", "recover_folder", "replacing", "replacing_folder", "write_bytes", "write_text"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise."""
    path = Path(path)
    if path.is_dir():
        raise RefsegError(f"{path} is a folder; a file is wanted here")
    with _writing_beside(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RefsegError(f"{folder} is a file; a folder is wanted here")
    with _writing_beside(folder):
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        previous = _previous(folder)
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        temporary.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(folder: str | os.PathLike[str]) -> None:
    """Put back what a kill between the two renames of `replacing_folder` left aside."""
    folder = Path(folder)
    previous = _previous(folder)
    if not folder.exists() and previous.is_dir():
        previous.rename(folder)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary, _writing_beside(Path(path)):  # the disk may be full
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """Write `content` as UTF-8 to `path`, whole or not at all."""
    return write_bytes(path, content.encode("utf-8"))


def cache_folder() -> Path | None:
    """The folder for cached files: `REFSEG_CACHE` (default `~/.cache/refseg`); None where that says `off`."""
    named = os.environ.get("REFSEG_CACHE")
    if named is not None and named.lower() in ("off", "0", "no", ""):
        return None
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refseg"


@contextmanager
def _writing_beside(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RefsegError(f"{path.parent}: cannot write there ({error.strerror})") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _previous(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.previous"
