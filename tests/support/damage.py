"""Damaged versions of a file: cut short, with flipped bits, with values of JSON or pickle replaced by odd ones."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refseg.errors import RefsegError

# What no reader expects in one place or another.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e30, float("nan"), float("inf"), 10**25, "", "x", "\0", "../../x", "/etc/passwd", "\ud800", [],
    [[]], {}, {"x": []}, [None], [float("nan")], ["a", "b"], [-5, -5, 2, 2], [1, 2, 3], {"size": [1, 1], "counts": "0"},
    {"size": [10**6, 10**6], "counts": [10**12]}, {"size": [40, 60], "counts": "PPPPPP"}, [[[[1]]]],
)  # fmt: skip


def damaged(path: Path, random: np.random.Generator, cuts: int, flips: int, swaps: int) -> Iterator[bytes]:
    """Versions of the file at `path`: so many cut short, with flipped bits, and with a value replaced."""
    whole = path.read_bytes()
    for size in random.integers(0, len(whole), cuts):
        yield whole[: int(size)]
    for _ in range(flips):
        flipped = bytearray(whole)
        for place in random.integers(0, len(whole), int(random.integers(1, 4))):
            flipped[place] ^= 1 << int(random.integers(8))
        yield bytes(flipped)
    if path.suffix in (".json", ".jsonl"):
        for _ in range(swaps):
            lines = whole.decode().splitlines() if path.suffix == ".jsonl" else [whole.decode()]
            place = int(random.integers(len(lines)))
            lines[place] = json.dumps(swapped(json.loads(lines[place]), random))
            yield "\n".join(lines).encode()
    if path.suffix == ".p":
        for _ in range(swaps):
            yield pickle.dumps(swapped(pickle.loads(whole), random), protocol=2)


def swapped(content: Any, random: np.random.Generator) -> Any:
    """A copy in which one value, at any depth, is an odd one, is missing, or stands twice."""
    content = copy.deepcopy(content)
    places = list(_places(content))
    if not places:
        return ODD[int(random.integers(len(ODD)))]
    holder, key = places[int(random.integers(len(places)))]
    way = random.random()
    if way < 0.1:
        del holder[key]
    elif way < 0.15 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(ODD[int(random.integers(len(ODD)))])
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield content, key
        yield from _places(content[key])


def is_own(error: BaseException | None) -> bool:
    """Whether an error is the package's. The type checker of the tests looks at an item of what it is handed, and hides
    the error that building the item raises behind its own."""
    while error is not None and not isinstance(error, RefsegError):
        error = error.__cause__ or error.__context__
    return error is not None
