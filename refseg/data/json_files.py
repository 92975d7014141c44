"""JSON files of data sets: whole, or record by record where a file is larger than memory as Python objects.

Visual Genome's regions take 700 MB as a file and ten times that as Python objects. The streams use the standard
library's decoder on growing chunks: as fast as `ijson` with its C back end, and values that are no JSON but are written
by Python (NaN) cost their own record and not the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from refseg.errors import DataError
from refseg.files import write_bytes

__all__ = ["read_json", "read_table", "stream_list", "stream_table", "write_json"]

_CHUNK = 1 << 22
_DAMAGED = "the file is cut short or damaged: get it again"


def read_json(path: str | os.PathLike[str], hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The JSON file at `path`, each table passed through `hook`; raises `DataError` that names file and place."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as handle:
            return json.load(handle, object_hook=hook)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno} ({error.msg})"
        raise DataError(f"{path}: not valid JSON at {where}; {_DAMAGED}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: not valid JSON ({type(error).__name__}: {error})") from error


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that is one table; raises `DataError` that names it."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a table is wanted, not {type(content).__name__}")
    return content


def write_json(path: Path, content: Any) -> None:
    """JSON at `path`, whole or not at all."""
    write_bytes(path, json.dumps(content, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace"))


def stream_list(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The items of a JSON file that is one list, one after the other. Raises `DataError` that names file and place."""
    for _, value in _stream(Path(path), "["):
        yield value


def stream_table(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of a JSON file that is one table, one after the other; raises as `stream_list` does."""
    yield from _stream(Path(path), "{")


def _stream(path: Path, opening: str) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8") as handle:
            yield from _Records(path, handle, opening)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error}); the file is damaged: get it again") from error


class _Records:
    """Iterates over the top level of one file; holds a chunk of text that starts at the next record."""

    def __init__(self, path: Path, handle: TextIO, opening: str) -> None:
        self.path, self.handle, self.opening = path, handle, opening
        self.closing = "]" if opening == "[" else "}"
        self.decoder = json.JSONDecoder()
        self.text, self.position, self.passed, self.ended = "", 0, 0, False

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        if self._next() != self.opening:
            kind = "a list" if self.opening == "[" else "a table"
            raise DataError(f"{self.path}: {kind} is wanted")
        self.position += 1
        count = 0
        while True:
            letter = self._next()
            if letter == self.closing and not count:
                break
            key = ""
            if self.opening == "{":
                key = self._value()
                if not isinstance(key, str) or self._next() != ":":
                    raise self._damage()
                self.position += 1
                self._next()
            yield key, self._value()
            count += 1
            letter = self._next()
            if letter == self.closing:
                break
            if letter != ",":
                raise self._damage()
            self.position += 1
        self.position += 1
        if self._next():
            raise self._damage()

    def _next(self) -> str:
        """The next letter that is not white space, "" at the file's end."""
        while True:
            while self.position < len(self.text):
                if not self.text[self.position].isspace():
                    return self.text[self.position]
                self.position += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        size = _CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except (json.JSONDecodeError, RecursionError) as error:
                # It may only be cut by the chunk's end; ever larger chunks keep the work linear.
                if isinstance(error, RecursionError) or not self._more(size):
                    raise self._damage() from error
                size *= 2
                continue
            # A number at the chunk's end may go on.
            if end == len(self.text) and isinstance(value, (int, float)) and self._more():
                continue
            self.position = end
            return value

    def _more(self, size: int = _CHUNK) -> bool:
        if self.ended:
            return False
        self.passed += self.position
        added = self.handle.read(size)
        self.text, self.position = self.text[self.position :] + added, 0
        self.ended = not added
        return bool(added)

    def _damage(self) -> DataError:
        place = self.passed + self.position
        return DataError(f"{self.path}: not valid JSON at character {place}; {_DAMAGED}")
