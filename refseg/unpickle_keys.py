"""Keys of a pickle's dicts and members of its sets, weighed before they are hashed.

A tuple is hashed with all that it holds, each time anew: a tuple of twice the same tuple of twice the same ... takes
time without end from a few bytes, and one of a million nested tuples overflows the stack. The unpickler here is
Python's own, which makes each value by a method, several times slower than the one in C: for the pickles that have such
values at all (`refseg.opcodes.check_opcodes`).
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from refseg.opcodes import OpcodeError

__all__ = ["CarefulUnpickler", "Keys"]

_DEEPEST = 100
"""Levels of tuples in tuples."""
_ALIKE = 64
"""Keys of one dict with the same hash: it compares each with all others."""


class Keys:
    """What hashing may cost: `limit` parts of keys together."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self._known: dict[int, tuple[int, int]] = {}
        """Of each tuple and frozenset by its id: how many parts it has where it is written out, and its depth."""
        self._hashes: dict[int, Counter[int]] = {}

    def made(self, value: Any) -> None:
        """Take note of a new tuple or frozenset. Raises `OpcodeError` for one that is too deep."""
        weights = [self._weight(part) for part in value]
        depth = 1 + max((depth for _, depth in weights), default=0)
        if depth > _DEEPEST:
            raise OpcodeError("it holds tuples in tuples without end")
        self._known[id(value)] = (1 + sum(parts for parts, _ in weights), depth)

    def check(self, keys: Iterable[Any], target: Any = ()) -> None:
        """Raises `OpcodeError` where keys cost too much to be put into the dict or set `target`."""
        hashes = self._hashes.setdefault(id(target), Counter()) if target else Counter[int]()
        if not target:  # the id of a dict that is gone may be that of a new one
            self._hashes[id(target)] = hashes
        for key in keys:
            if isinstance(key, (tuple, frozenset)):
                self.left -= self._weight(key)[0]
                if self.left < 0:
                    raise OpcodeError("its keys hold the same parts over and over")
                found = hash(key)
                hashes[found] += 1
                if hashes[found] > _ALIKE:
                    raise OpcodeError("a dict of keys that all have the same hash")
            elif isinstance(key, int) and key.bit_length() > 64:
                raise OpcodeError("a key that is a number of more than 64 bits")

    def _weight(self, value: Any) -> tuple[int, int]:
        if isinstance(value, (tuple, frozenset)):
            return self._known.get(id(value), (1 + len(value), 1))
        return (1 + value.bit_length() // 64, 0) if isinstance(value, int) else (1, 0)


class CarefulUnpickler(pickle._Unpickler):
    """Python's unpickler, with `keys` asked before anything is hashed."""

    keys: Keys


def _makes(load: Callable[[Any], None]) -> Callable[[CarefulUnpickler], None]:
    def then_weigh(self: Any) -> None:
        load(self)
        self.keys.made(self.stack[-1])

    return then_weigh


def _hashes(load: Callable[[Any], None], keys: Callable[[Any], tuple[Any, Any]]) -> Callable[[CarefulUnpickler], None]:
    def after_check(self: Any) -> None:
        self.keys.check(*keys(self))
        load(self)

    return after_check


# `stack` holds what was pushed since the last mark, `metastack` the stacks before.
_KEYS: dict[bytes, Callable[[Any], tuple[Any, Any]]] = {
    pickle.SETITEM: lambda self: (self.stack[-2:-1], self.stack[-3]),
    pickle.SETITEMS: lambda self: (self.stack[::2], self.metastack[-1][-1]),
    pickle.DICT: lambda self: (self.stack[::2], ()),
    pickle.ADDITEMS: lambda self: (self.stack, self.metastack[-1][-1]),
    pickle.FROZENSET: lambda self: (self.stack, ()),
}
_own: dict[int, Any] = dict(pickle._Unpickler.dispatch)  # type: ignore[arg-type]
for _code, _keys in _KEYS.items():
    _own[_code[0]] = _hashes(_own[_code[0]], _keys)
for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.FROZENSET):
    _own[_code[0]] = _makes(_own[_code[0]])
CarefulUnpickler.dispatch = _own
