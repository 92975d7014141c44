"""Pickles of strangers, read without running what they hold.

A pickle is a program: loading one can do anything. The readers here build plain values (lists, dicts, text, numbers)
and, where asked for, NumPy arrays; every other name that a file asks for is refused. Files of Python 2 are read, plain
strings as Latin-1. `refs(unc).p` of RefCOCO needs plain values, detectron2's `.pkl` checkpoints need arrays.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from refseg.errors import DataError, RefsegError

__all__ = ["load_pickle", "loads_pickle"]

# The largest published annotation file (RefCOCO, text pickle of Python 2) has about 55 MB.
MAX_BYTES = 1_000_000_000

# NumPy's type letters -> struct's, for the numbers that stand in annotation files.
_LETTERS = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def load_pickle(
    path: str | os.PathLike[str],
    *,
    arrays: bool = False,
    max_bytes: int | None = MAX_BYTES,
    error: type[RefsegError] = DataError,
) -> Any:
    """What the pickle at `path` holds: lists, tuples, dicts, sets, text, bytes, numbers, bools and None, nothing else.

    With `arrays`, NumPy arrays too (object arrays of such values included). Raises `error` when the file cannot be
    read, is larger than `max_bytes`, is cut short or no pickle, or asks for anything else, which is never run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise error(f"{path}: {size:,} bytes, more than the limit of {max_bytes:,} for a pickle")
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from problem
    return loads_pickle(content, str(path), arrays=arrays, error=error)


def loads_pickle(
    content: bytes, name: str = "the pickle", *, arrays: bool = False, error: type[RefsegError] = DataError
) -> Any:
    """As `load_pickle`, from bytes; `name` stands in messages."""
    allowed = _PLAIN | _ARRAYS if arrays else _PLAIN | _NUMBERS
    try:
        return _Unpickler(io.BytesIO(content), allowed).load()
    except _Refused as problem:
        kinds = "plain values and arrays" if arrays else "plain values"
        raise error(f"{name}: refused: {problem}; only {kinds} are read") from problem
    except Exception as problem:  # a damaged file makes the unpickler raise nearly anything
        raise error(
            f"{name}: not a readable pickle ({type(problem).__name__}: {problem}); "
            "the file is cut short or damaged: get it again"
        ) from problem


class _Refused(Exception):
    """The pickle asks for something that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: dict[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None

    def persistent_load(self, key: Any) -> Any:
        raise _Refused("it refers to objects outside the file")


class _NumberType:
    """Stands for numpy.dtype where only numbers are read: remembers the type's letters and byte order."""

    def __init__(self, letters: Any, align: Any = False, copy: Any = True) -> None:
        if letters not in _LETTERS:
            raise _Refused(f"a NumPy type {letters!r}")
        self.letter = _LETTERS[letters]
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


class _Function:
    """A function that a pickle may call but not change: pickles can also set attributes of what they name."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes a function")


class _Number(_Function):
    """Stands for numpy's scalar constructor: the Python number in the bytes."""

    __slots__ = ()

    def __call__(self, kind: Any, raw: Any) -> Any:
        if not isinstance(kind, _NumberType) or not isinstance(raw, (bytes, str)):
            raise _Refused("a NumPy value that is not a number")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return struct.unpack(kind.order + kind.letter, data)[0]


class _Encode(_Function):
    """Stands for codecs.encode, by which Python 3 writes bytes into the protocols of Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("an encoding other than Latin-1")
        return text.encode("latin1")


class _EmptyArray(_Function):
    """Stands for numpy's array constructor: an empty array, which the pickle then fills."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, letters: Any) -> Any:
        if kind is not np.ndarray:
            raise _Refused("an array of an unknown kind")
        return np.ndarray((0,), dtype="b")


class _FilledArray(_Function):
    """Stands for numpy's array from bytes, as protocol 5 writes it."""

    __slots__ = ()

    def __call__(self, content: Any, kind: Any, shape: Any, order: Any) -> Any:
        return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy()


_PLAIN: dict[tuple[str, str], Any] = {("_codecs", "encode"): _Encode()}
_NUMBERS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _Number(),
}
_ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _EmptyArray(),
    ("numpy.core.numeric", "_frombuffer"): _FilledArray(),
    ("collections", "OrderedDict"): dict,
}
