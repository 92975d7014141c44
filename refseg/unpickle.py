"""Pickles of strangers, read without running what they hold.

A pickle is a program: loading one can do anything. The readers here build plain values (lists, dicts, text, numbers)
and, where asked for, NumPy arrays; every other name that a file asks for is refused. Files of Python 2 are read, plain
strings as Latin-1. `refs(unc).p` of RefCOCO needs plain values, detectron2's `.pkl` checkpoints need arrays.
"""

from __future__ import annotations

import gc
import io
import math
import os
import pickle
import re
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from refseg.errors import DataError, RefsegError
from refseg.opcodes import OpcodeError, check_opcodes
from refseg.unpickle_keys import CarefulUnpickler, Keys

__all__ = ["load_pickle", "loads_pickle"]

# The largest published annotation file (RefCOCO, text pickle of Python 2) has about 55 MB. A byte of a pickle can
# become an empty dict of 64.
MAX_BYTES = 256_000_000

_SHARED = 2
"""How many parts a byte of the file what it holds may have where it is written out (`_check_expansion`)."""
_HASHED = 8
"""How many parts of keys a byte of the file may have hashed (`refseg.unpickle_keys`)."""
_SMALL = 1 << 20
"""Values and bytes that are no danger, however small the file."""


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
    collecting = gc.isenabled()
    gc.disable()  # which would look through millions of new objects again and again, and find nothing
    try:
        found = (_Unpickler if check_opcodes(content) else _Careful)(content, arrays).load()
        _check_expansion(found, _SMALL + _SHARED * len(content))
        return found
    except (_Refused, OpcodeError) as problem:
        kinds = "plain values and arrays" if arrays else "plain values"
        raise error(f"{name}: refused: {problem}; only {kinds} are read") from problem
    except Exception as problem:  # a damaged file makes the unpickler raise nearly anything
        reason = str(problem)[:200]
        raise error(
            f"{name}: not a readable pickle ({type(problem).__name__}: {reason}); "
            "the file is cut short or damaged: get it again"
        ) from problem
    finally:
        if collecting:
            gc.enable()


class _Refused(Exception):
    """The pickle asks for something that is not allowed."""


class _Names:
    """What both unpicklers take a pickle's names for."""

    def __init__(self, content: bytes, arrays: bool) -> None:
        # Buffered: the unpickler in C asks for a few bytes at a time where it cannot peek, by a call of Python each.
        stream = io.BufferedReader(io.BytesIO(content), 1 << 20)  # type: ignore[arg-type]
        super().__init__(stream, encoding="latin1")  # type: ignore[call-arg]
        self.keys = Keys(_SMALL + _HASHED * len(content))
        budget = _Budget(_SMALL + len(content))
        self._allowed: dict[tuple[str, str], Any] = {
            ("_codecs", "encode"): _Encode(budget),
            ("__builtin__", "bytes"): _NoBytes(),
            ("numpy", "dtype"): _DataType,
            ("numpy.core.multiarray", "scalar"): _Number(),
        }
        if arrays:
            self._allowed |= {
                ("numpy", "ndarray"): _ArrayKind(),
                ("numpy.core.multiarray", "_reconstruct"): _EmptyArray(budget),
                ("numpy.core.numeric", "_frombuffer"): _FilledArray(budget),
                ("collections", "OrderedDict"): _Dictionary(budget, self.keys),
            }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise _Refused(f"it asks for {module[:80]}.{name[:80]}") from None

    def persistent_load(self, key: Any) -> Any:
        raise _Refused("it refers to objects outside the file")


class _Unpickler(_Names, pickle.Unpickler):
    """In C, for pickles without values that are slow to hash."""


class _Careful(_Names, CarefulUnpickler):
    """For those with some."""


class _Budget:
    """Bytes that functions may still copy: what they copy stands in the file once, though a few bytes of the file can
    ask for it again and again."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused("it asks for more memory than it has bytes")


class _DataType:
    """Stands for numpy.dtype: numbers, and for arrays text and objects, of the sizes that NumPy has.

    No structures: a size of their own is all that a few bytes need to ask for any memory.
    """

    __slots__ = ("kind", "letters", "order")

    def __init__(self, letters: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(letters, str) or not _LETTERS(letters):
            raise _Refused("a NumPy type that is none of numbers, text or objects")
        self.letters, self.kind = letters, letters[0]
        self.order: Literal["<", ">"] = "<"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise _Refused("a NumPy type with parts")
        if state[1] == ">":
            self.order = ">"

    def number(self, raw: bytes) -> Any:
        """The Python number in the bytes."""
        if self.kind not in "biuf":
            raise _Refused("a NumPy value that is not a number")
        found = np.dtype(self.letters).newbyteorder(self.order)
        if len(raw) != found.itemsize:
            raise ValueError("a NumPy number of another size")
        return np.frombuffer(raw, dtype=found)[0].item()

    def array(self, content: Any, shape: Any, order: Any, budget: _Budget) -> np.ndarray:
        """An array of its own from bytes or, of objects, from a list."""
        if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
            raise _Refused("an array whose shape is no tuple of numbers")
        if order not in ("C", "F"):
            raise _Refused("an array of an unknown order")
        count = math.prod(shape)
        if self.kind == "O":
            if not isinstance(content, list) or len(content) != count:
                raise ValueError("an array of objects of another size")
            budget.spend(count)
            flat = np.empty(count, dtype=object)
            flat[:] = content
        else:
            found = np.dtype(self.letters).newbyteorder(self.order)
            data = content.encode("latin1") if isinstance(content, str) else content
            if not isinstance(data, (bytes, bytearray)) or len(data) != count * found.itemsize:
                raise ValueError("an array of another size than its bytes")
            budget.spend(len(data))
            flat = np.frombuffer(data, dtype=found).astype(found.newbyteorder("="))
        return flat.reshape(shape, order=order)


class _Function:
    """A function that a pickle may call but not change: pickles can also set attributes of what they name."""

    __slots__ = ("budget",)

    def __init__(self, budget: _Budget | None = None) -> None:
        self.budget = budget or _Budget(0)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes a function")


class _Number(_Function):
    """Stands for numpy's scalar constructor: the Python number in the bytes."""

    __slots__ = ()

    def __call__(self, kind: Any, raw: Any) -> Any:
        if not isinstance(kind, _DataType) or not isinstance(raw, (bytes, str)) or len(raw) > _LONGEST:
            raise _Refused("a NumPy value that is not a number")
        return kind.number(raw.encode("latin1") if isinstance(raw, str) else raw)


class _Encode(_Function):
    """Stands for codecs.encode, by which Python 3 writes bytes into the protocols of Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("an encoding other than Latin-1")
        self.budget.spend(len(text))
        return text.encode("latin1")


class _NoBytes(_Function):
    """Stands for bytes, called by the protocols of Python 2 for those of length 0."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _ArrayKind(_Function):
    """Stands for numpy.ndarray where it is named and never called."""

    __slots__ = ()


class _Array(np.ndarray):
    """An array that its pickle fills, checked; a subclass, since the pickle does so by a method."""

    budget: _Budget

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DataType):
            raise _Refused("an array that is filled in an unknown way")
        _, shape, kind, fortran, content = state
        filled = kind.array(content, shape, "F" if fortran else "C", self.budget)
        content = _content(filled, bool(fortran))
        super().__setstate__((1, filled.shape, filled.dtype, bool(fortran), content))  # type: ignore[arg-type]


class _EmptyArray(_Function):
    """Stands for numpy's array constructor: an empty array, which the pickle then fills."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, letters: Any) -> Any:
        if not isinstance(kind, _ArrayKind):
            raise _Refused("an array of an unknown kind")
        made = _Array((0,), dtype="b")
        made.budget = self.budget
        return made


class _FilledArray(_Function):
    """Stands for numpy's array from bytes, as protocol 5 writes it."""

    __slots__ = ()

    def __call__(self, content: Any, kind: Any, shape: Any, order: Any) -> Any:
        if not isinstance(kind, _DataType):
            raise _Refused("an array of an unknown kind")
        return kind.array(content, shape, order, self.budget)


class _Dictionary(_Function):
    """Stands for collections.OrderedDict: an empty dict, or one of pairs, as Python 2 writes it."""

    __slots__ = ("keys",)

    def __init__(self, budget: _Budget, keys: Keys) -> None:
        super().__init__(budget)
        self.keys = keys

    def __call__(self, pairs: Any = ()) -> dict[Any, Any]:
        if not isinstance(pairs, (list, tuple)) or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
        ):
            raise _Refused("a dict of something else than pairs")
        self.budget.spend(len(pairs))
        self.keys.check(pair[0] for pair in pairs)
        return dict(pairs)


def _content(array: np.ndarray, fortran: bool) -> Any:
    """What `numpy.ndarray.__setstate__` takes: a list of objects, or bytes."""
    order: Literal["C", "F"] = "F" if fortran else "C"
    return array.ravel(order).tolist() if array.dtype.hasobject else array.tobytes(order)


def _check_expansion(value: Any, limit: int) -> None:
    """Raises `_Refused` where a value that is written out, shared parts again wherever they stand, has more than
    `limit` parts: lists of ten times the same list of ten times the same ... are small in memory only, and endless for
    whoever prints or compares them."""
    # By C alone, a thousand containers at a time: a data set has millions of parts.
    stack, count = [value] if type(value) in _CONTAINERS else [], 0
    while stack:
        some = stack[-1000:]
        del stack[-1000:]
        count += sum(map(len, some))
        if count > limit:
            raise _Refused("it holds the same parts over and over")
        parts = gc.get_referents(*some)
        stack += compress(parts, map(_CONTAINERS.__contains__, map(type, parts)))


_CONTAINERS = frozenset((dict, list, tuple, set, frozenset))
_LONGEST = 64
"""Bytes of a number, and more."""
_LETTERS = re.compile(r"[biufc][1248]|c16|O[48]?|[US]\d{1,4}").fullmatch
"""NumPy's letters for the types that are read."""
