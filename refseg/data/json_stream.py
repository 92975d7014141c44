"""Large JSON files record by record: Visual Genome's regions take 700 MB as a file and ten times that as Python
objects.

No torch in this file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from refseg.errors import DataError

_CHUNK = 1 << 22


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
        return DataError(
            f"{self.path}: not valid JSON at character {self.passed + self.position}; "
            "the file is cut short or damaged: get it again"
        )
