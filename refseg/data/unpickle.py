"""Reading the field's pickled annotation files without running what they hold.

A pickle is a program: loading one from a stranger can do anything. `refs(unc).p` needs nothing but lists, dicts, text
and numbers, so every other name that a file asks for is refused. NumPy numbers, which some re-saved files hold, are
rebuilt here from their bytes; NumPy itself is never called. Files of Python 2 are read, plain strings as Latin-1.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

from refseg.errors import DataError

# The largest published file of this kind (RefCOCO, text pickle of Python 2) has about 55 MB.
MAX_BYTES = 1_000_000_000

# NumPy's type letters -> struct's, for the numbers that stand in annotation files.
_LETTERS = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def load_pickle(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Any:
    """What the pickle at `path` holds: lists, tuples, dicts, sets, text, bytes, numbers, bools and None, nothing else.

    Raises `DataError` when the file cannot be read, is larger than `max_bytes`, is cut short or no pickle, or asks for
    anything but plain values; nothing that it asks for is run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: {size:,} bytes, more than the limit of {max_bytes:,} for a pickle")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return loads_pickle(content, str(path))


def loads_pickle(content: bytes, name: str = "the pickle") -> Any:
    """As `load_pickle`, from bytes; `name` stands in messages."""
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except _Refused as error:
        raise DataError(f"{name}: refused: {error}; annotation files hold plain values only") from error
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        raise DataError(
            f"{name}: not a readable pickle ({type(error).__name__}: {error}); "
            "the file is cut short or damaged: get it again"
        ) from error


class _Refused(Exception):
    """The pickle asks for something that is not a plain value."""


class _NumberType:
    """Stands for numpy.dtype: remembers the type's letters and byte order."""

    def __init__(self, letters: Any, align: Any = False, copy: Any = True) -> None:
        if letters not in _LETTERS:
            raise _Refused(f"a NumPy type {letters!r}")
        self.letter = _LETTERS[letters]
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


class _Shim:
    """A function that a pickle may call but not change: pickles can also set attributes of what they name."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes a function")


class _Number(_Shim):
    """Stands for numpy's scalar constructor: the Python number in the bytes."""

    __slots__ = ()

    def __call__(self, kind: Any, raw: Any) -> Any:
        if not isinstance(kind, _NumberType) or not isinstance(raw, (bytes, str)):
            raise _Refused("a NumPy value that is not a number")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return struct.unpack(kind.order + kind.letter, data)[0]


class _Encode(_Shim):
    """Stands for codecs.encode, by which Python 3 writes bytes into the protocols of Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("an encoding other than Latin-1")
        return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _Number(),
    ("numpy._core.multiarray", "scalar"): _Number(),
    ("_codecs", "encode"): _Encode(),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None

    def persistent_load(self, key: Any) -> Any:
        raise _Refused("it refers to objects outside the file")
