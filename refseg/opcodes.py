"""What the opcodes of a pickle ask for, seen before any of them is run.

Python's unpickler makes room for memo number n as soon as a pickle names it: seven bytes ask for a gigabyte. Real
pickles count their memo from 0, so a number that is larger than the file has bytes is refused. A dict hashes its keys,
and a tuple hashes all that it holds anew each time, a long integer all its digits: what makes such values is told, so
that those pickles are read with more care. The opcodes are read by one regular expression; lengths of over 255 bytes
are followed one by one.
"""

from __future__ import annotations

import pickletools
import re
from functools import lru_cache

__all__ = ["OpcodeError", "check_opcodes"]

_MOST = 2000
"""Opcodes that one match takes: the expression keeps its way back for each of them."""
_LENGTHS = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4,
            pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8}  # fmt: skip
_LINES = {"GLOBAL": 2, "INST": 2}
_FREQUENT = {"PUT", "BINPUT", "LONG_BINPUT", "BINUNICODE", "SHORT_BINUNICODE", "BINGET", "BININT", "BININT1", "BININT2",
             "INT", "STRING", "UNICODE", "FLOAT", "BINFLOAT"}  # fmt: skip
"""What data sets are full of: tried first."""
_COSTLY = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "LONG4"}
"""Opcodes of values that are slow to hash, or crash the process: hashing goes down a million nested tuples too."""
_INTEGERS = {"INT": b"[^\n]{0,19}\n", "LONG": b"[^\n]{0,19}\n",
             "LONG1": b"(?:" + b"|".join(bytes([n]) + b".{%d}" % n for n in range(9)) + b")"}  # fmt: skip
"""Those of 64 bits at most: longer ones can be chosen so that all have the same hash."""
_CAREFUL = {ord(opcode.code) for opcode in pickletools.opcodes if opcode.name in _COSTLY | _INTEGERS.keys()}
_LONG = {
    ord(opcode.code): _LENGTHS[opcode.arg.n]
    for opcode in pickletools.opcodes
    if opcode.arg is not None and _LENGTHS.get(opcode.arg.n, 1) > 1
}
"""Opcodes followed by a length of 4 or 8 bytes, and by so many bytes."""


class OpcodeError(Exception):
    """A pickle that asks for too much, or is none."""


def check_opcodes(content: bytes) -> bool:
    """Whether a pickle makes only values that are hashed at once: no tuple but (), no frozenset, no long integer.

    Raises `OpcodeError` for a pickle with a memo number of more than its number of bytes, and `EOFError` or
    `ValueError` for one that is cut short or holds what is no opcode. Reads up to the first STOP, as the unpickler.
    """
    # Powers of 2, so that few expressions are ever made.
    size = 1 << max(16, len(content).bit_length())
    pattern, plain = _pattern(size, False), True
    place, end = 0, len(content)
    while place < end:
        found = pattern.match(content, place)
        if found is not None and found.end() > place:
            place = found.end()
            continue
        code = content[place]
        if code == ord("."):
            return plain
        if plain and code in _CAREFUL:
            pattern, plain = _pattern(size, True), False
            continue
        if code in _LONG:
            size = _LONG[code]
            length = int.from_bytes(content[place + 1 : place + 1 + size], "little")
            if place + 1 + size + length > end:
                raise EOFError("pickle data was truncated")
            place += 1 + size + length
        elif (code == ord("r") and place + 4 < end) or (code == ord("p") and b"\n" in content[place : place + 4096]):
            raise OpcodeError("its memo has numbers that are larger than the file")
        else:
            raise ValueError(f"no opcode, or one that is cut short, at byte {place}")
    raise EOFError("there is no end")


@lru_cache(maxsize=16)
def _pattern(size: int, costly: bool) -> re.Pattern[bytes]:
    """Up to `_MOST` opcodes in a row, of a pickle of `size` bytes: all but STOP and those followed by a long length;
    those of values that are slow to hash where they are wanted."""
    alone, choices = b"", []
    for opcode in sorted(pickletools.opcodes, key=lambda opcode: opcode.name not in _FREQUENT):
        code, count = re.escape(opcode.code.encode("latin1")), 0 if opcode.arg is None else opcode.arg.n
        if opcode.name in _COSTLY and not costly:
            continue
        if opcode.name in _INTEGERS and not costly:
            choices.append(code + _INTEGERS[opcode.name])
        elif opcode.name == "PUT":
            choices.append(code + b"0*[0-9]{1,%d}\r?\n" % len(str(size)))
        elif opcode.name == "LONG_BINPUT":
            choices.append(code + _at_most(size))
        elif opcode.name == "BINUNICODE":
            choices.append(code + b"(?:" + b"|".join(_counted(n, b"\\0\\0\\0") for n in range(256)) + b")")
        elif count == pickletools.UP_TO_NEWLINE:
            choices.append(code + b"[^\n]*\n" * _LINES.get(opcode.name, 1))
        elif count == pickletools.TAKEN_FROM_ARGUMENT1:
            choices.append(code + b"(?:" + b"|".join(_counted(n) for n in range(256)) + b")")
        elif count > 0:
            choices.append(code + b".{%d}" % count)
        elif count == 0 and opcode.name != "STOP":
            alone += code
    return re.compile(b"(?:[" + alone + b"]|" + b"|".join(choices) + b"){0,%d}" % _MOST, re.DOTALL)


def _counted(length: int, more: bytes = b"") -> bytes:
    return re.escape(bytes([length])) + more + b".{%d}" % length


def _at_most(size: int) -> bytes:
    """Four bytes, the lowest first, of a number that is less than twice `size`."""
    digits = min(4, (size.bit_length() + 7) // 8)
    top = re.escape(bytes([min(255, size >> 8 * (digits - 1))]))
    return b".{%d}[\\0-" % (digits - 1) + top + b"]" + b"\\0" * (4 - digits)
