"""Which pictures an index is made of: folders, files and patterns, lists of them, and buckets.

A bucket is an address that Arrow has a file system for ("s3://bucket/holiday", "gs://...", "hf://datasets/..."), with
the credentials of its environment. Web pages are not fetched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyarrow import ArrowException, fs

from refseg.data.images import SUFFIXES, find_pictures
from refseg.errors import ImageError, RefsegError

__all__ = ["LARGEST_FILE", "Found", "find", "read_file", "stands_below"]

LISTS = (".txt", ".lst", ".list")
"""What files that list pictures, a path a line, end with."""
LARGEST_FILE = 256 * 1024 * 1024
"""Bytes of the largest file that is read as a picture."""


@dataclass(frozen=True)
class Found:
    """A picture file: `path` absolute, or an address; bytes and time of the last change (nanoseconds) tell whether it
    has changed, -1 where it is not there."""

    path: str
    size: int
    changed: int
    read: Callable[[], bytes]


def find(places: Sequence[str | os.PathLike[str]]) -> Iterator[Found]:
    """The pictures of `places`, each once, in order.

    A list's lines are paths, relative to its folder, or addresses; what stands there and is not found is given all the
    same, so that the index says so. Raises `RefsegError` for a place that is not there, or an address of no file
    system.
    """
    seen: set[str] = set()
    for place in places:
        for found in _of(os.fspath(place)):
            if found.path not in seen:
                seen.add(found.path)
                yield found


def stands_below(path: str, places: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether a picture's path lies in one of the folders or buckets of `places`."""
    for place in (os.fspath(each) for each in places):
        root = place.rstrip("/") if _is_address(place) else os.path.abspath(place)
        if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
            return True
    return False


def read_file(path: str) -> bytes:
    """The bytes of a picture file or address. Raises `ImageError` where it cannot be read, or is too large."""
    if _is_address(path):
        system, inside = _system(path)
        return _read_address(system, inside, path)
    try:
        size = os.path.getsize(path)
        if size > LARGEST_FILE:
            raise ImageError(f"{path}: {size:,} bytes; at most {LARGEST_FILE:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ImageError(f"{path}: the picture cannot be opened ({reason})") from error
    except ValueError as error:
        raise ImageError(f"{path!r}: not a path ({error})") from error


def _of(place: str) -> Iterator[Found]:
    if _is_address(place):
        yield from _bucket(place)
    elif place.lower().endswith(LISTS) and os.path.isfile(place):
        yield from _listed(Path(place))
    else:
        for path in find_pictures([place]):
            yield _local(os.path.abspath(path))


def _local(path: str) -> Found:
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        shown = path.encode("utf-8", "replace").decode()
        return Found(shown, -1, -1, lambda: read_file(shown))  # no row can hold the name; it stands there as a bad one
    try:
        status = os.stat(path)
        return Found(path, status.st_size, status.st_mtime_ns, lambda: read_file(path))
    except (OSError, ValueError):
        return Found(path, -1, -1, lambda: read_file(path))


def _listed(path: Path) -> Iterator[Found]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RefsegError(f"{path}: not a list of pictures, a path a line in UTF-8 ({error})") from error
    for line in map(str.strip, lines):
        if _is_address(line):
            yield from _bucket(line)
        elif line and not line.startswith("#"):
            yield _local(os.path.abspath(path.parent / line))


def _is_address(place: str) -> bool:
    return "://" in place and place.split("://")[0].isalnum()


def _system(address: str) -> tuple[fs.FileSystem, str]:
    if address.startswith(("http://", "https://", "ftp://")):
        raise ImageError(f"{address}: pictures are not fetched from the network; give a folder or a bucket (s3://...)")
    try:
        return fs.FileSystem.from_uri(address)
    except (ArrowException, ImportError, OSError, ValueError) as error:
        raise RefsegError(f"{address}: no such bucket or kind of bucket ({_line(error)})") from error


def _bucket(address: str) -> Iterator[Found]:
    system, inside = _system(address)
    # The part of the address before the path inside the file system, which stays in front of every picture's.
    front = address[: len(address) - len(inside)] if address.endswith(inside) else address.split("://")[0] + "://"
    try:
        entry = system.get_file_info(inside)
        if entry.type == fs.FileType.Directory:
            entries = system.get_file_info(fs.FileSelector(inside, recursive=True))
        else:
            entries = [entry]
    except (ArrowException, OSError) as error:
        raise RefsegError(f"{address}: the bucket cannot be listed ({_line(error)})") from error
    for entry in sorted(entries, key=lambda each: each.path):
        name = PurePosixPath(entry.path)
        if entry.type == fs.FileType.NotFound:
            raise RefsegError(f"{address}: nothing is there")
        if entry.type == fs.FileType.File and name.suffix.lower() in SUFFIXES and not name.name.startswith("."):
            path = front + entry.path
            yield Found(path, entry.size or 0, entry.mtime_ns or 0, _reader(system, entry.path, path))


def _reader(system: fs.FileSystem, inside: str, path: str) -> Callable[[], bytes]:
    return lambda: _read_address(system, inside, path)


def _read_address(system: fs.FileSystem, inside: str, path: str) -> bytes:
    try:
        with system.open_input_stream(inside) as stream:
            data = stream.read(LARGEST_FILE + 1)
    except (ArrowException, OSError) as error:
        raise ImageError(f"{path}: the picture cannot be read ({_line(error)})") from error
    if len(data) > LARGEST_FILE:
        raise ImageError(f"{path}: more than {LARGEST_FILE:,} bytes")
    return data


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
