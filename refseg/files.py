"""Files and folders that are whole or absent: written under a temporary name beside the target, brought to the disk,
and renamed. What is written has the mode that the umask gives."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refseg.errors import RefsegError

__all__ = [
    "DAY", "cache_folder", "copy_file", "digest", "full_disk", "locked", "recover_folder", "remove_leftovers",
    "replacing", "replacing_folder", "write_bytes", "write_text",
]  # fmt: skip

DAY = 86_400.0
"""Seconds after which a half-written file is nobody's any more."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_CLONE = 0x40049409
"""FICLONE of Linux: the blocks of one file as another's, which are copied when one of the two changes."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise.

    Raises `RefsegError` where nothing can be written, a full disk in the block included.
    """
    path = Path(path)
    if path.is_dir():
        raise RefsegError(f"{path} is a folder; a file is wanted here")
    temporary = _beside(path)
    with _writing_beside(path):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = temporary.stat().st_mode & 0o777
    try:
        with full_disk(path):
            yield temporary
        with _writing_beside(path):
            _settle(temporary, mode)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: str | os.PathLike[str], *, keep: Path | None = None) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and vanishes otherwise.

    `keep` is where the folder of before goes, which is deleted without it. Raises as `replacing` does.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RefsegError(f"{folder} is a file; a folder is wanted here")
    temporary = _beside(folder)
    with _writing_beside(folder):
        temporary.mkdir()
        remove_leftovers(folder.parent, f".{folder.name}.", older_than=DAY)
    try:
        with full_disk(folder):
            yield temporary
        with _writing_beside(folder):
            mode = temporary.stat().st_mode & 0o777
            for root, _, names in os.walk(temporary):
                for name in names:
                    _settle(Path(root, name), mode & 0o666)
            _exchange(temporary, folder, keep)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover_folder(folder: str | os.PathLike[str]) -> None:
    """Put back what a kill between the two renames of `replacing_folder` left aside."""
    folder = Path(folder)
    previous = _previous(folder)
    if not folder.exists() and previous.is_dir():
        previous.rename(folder)


def remove_leftovers(folder: str | os.PathLike[str], prefix: str = ".", *, older_than: float = 0.0) -> None:
    """Delete what killed processes left in `folder`: `PREFIX*.part`, untouched for `older_than` seconds."""
    limit = time.time() - older_than
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if not (entry.name.startswith(prefix) and entry.name.endswith(".part")):
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime > limit:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary, _writing_beside(Path(path)):  # the disk may be full
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], content: str) -> Path:
    """Write `content` as UTF-8 to `path`, whole or not at all; half of a surrogate pair, which no UTF-8 holds, as
    \\uXXXX, as in JSON."""
    return write_bytes(path, content.encode("utf-8", "backslashreplace"))


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """A copy with blocks of its own, which share the source's where the file system can copy them on change (Btrfs,
    XFS): never a second name of the same file. Raises `OSError`."""
    with open(source, "rb") as given, open(target, "wb") as made:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.ioctl(made.fileno(), _CLONE, given.fileno())
            return
        shutil.copyfileobj(given, made, 1 << 20)


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises `OSError`."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            found.update(block)
    return found.hexdigest()


@contextmanager
def locked(path: str | os.PathLike[str], busy: str) -> Iterator[None]:
    """The lock of a file, held by this process meanwhile; the file stays. A process that dies lets go.

    Raises `RefsegError` with the text `busy`, in which {} is the other's process id, where another process holds it,
    and where the file cannot be made. Windows has no such locks: there nobody checks.
    """
    path = Path(path)
    with _writing_beside(path):
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            import fcntl

            # Not flock: its locks are handed on to the data workers, who may outlive a killed process by seconds.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise RefsegError(f"{path}: cannot be locked ({error.strerror})") from error
            holder = os.read(handle, 20).decode(errors="replace").strip() or "?"
            raise RefsegError(busy.replace("{}", holder)) from error  # not format: braces may stand in a path
        with _writing_beside(path):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def cache_folder() -> Path | None:
    """The folder for cached files: `REFSEG_CACHE` (default `~/.cache/refseg`); None where that says `off`."""
    named = os.environ.get("REFSEG_CACHE")
    if named is not None and named.lower() in ("off", "0", "no", ""):
        return None
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refseg"


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """A `RefsegError` that names `path` for a disk that is full or cannot be written, other errors as they are."""
    try:
        yield
    except RefsegError:
        raise
    except Exception as error:
        # Libraries written in Rust give the system's error number in words only.
        told = error.errno if isinstance(error, OSError) else None
        found = [number for number in sorted(_FULL) if number == told or f"os error {number})" in str(error)]
        if not found:
            raise
        raise RefsegError(f"{path}: cannot be written ({os.strerror(found[0])})") from error


@contextmanager
def _writing_beside(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RefsegError(f"{path.parent}: cannot write there ({error.strerror})") from error


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.part"


def _previous(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.previous"


def _settle(path: Path, mode: int) -> None:
    """Give a file its mode, whatever wrote it, and have its bytes on the disk before its name is: a loss of power
    would otherwise leave an empty file under the new name."""
    os.chmod(path, mode)
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(temporary: Path, folder: Path, keep: Path | None) -> None:
    """`temporary` in the place of `folder`, and that in the place of `keep`; a kill leaves one of the two whole."""
    previous, gone = _previous(folder) if keep is None else keep, _beside(folder)
    if folder.exists():
        if previous.exists():
            previous.rename(gone)
        folder.rename(previous)
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists() and previous.is_dir():
            previous.rename(folder)
        raise
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    shutil.rmtree(gone, ignore_errors=True)
    if keep is None:
        shutil.rmtree(previous, ignore_errors=True)
