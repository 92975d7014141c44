"""The known word as which a misspelt one is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

__all__ = ["spelled"]


def spelled(
    word: str, known: Iterable[str] | Mapping[str, object], frequent: Mapping[str, int] | None = None
) -> str | None:
    """The known word as which a misspelt one is read, None if there is none; at most a few thousand look-ups.

    One slip (a letter left out, put in or exchanged, two neighbours in each other's place) from four letters on, and in
    three letters only neighbours in each other's place ("dgo"); from seven letters on a letter more may be doubled or
    missing ("bannnana"). Where several words fit, the one with the same first letter and the same letters comes first,
    then the first in `frequent`.
    """
    if not (3 <= len(word) <= 24) or not (word.isascii() and word.isalpha()):
        return None
    known = known if isinstance(known, Mapping) else dict.fromkeys(known)
    found = {other for other in _slips(word) if other in known and len(other) >= min(len(word), 4) - (len(word) > 4)}
    if len(word) == 3:
        found = {other for other in found if sorted(other) == sorted(word)}
    if not found and len(word) >= 7:
        squeezed = _squeeze(word)
        found = set(_squeezed(tuple(known)).get(squeezed, ()))
    if not found:
        return None
    order = frequent or {other: -place for place, other in enumerate(known)}
    return min(
        found,
        key=lambda other: (
            other[0] != word[0],
            sorted(other) != sorted(word),
            _squeeze(other) != _squeeze(word),
            -order.get(other, -(10**6)),
        ),
    )


def _squeeze(word: str) -> str:
    return "".join(letter for place, letter in enumerate(word) if place == 0 or word[place - 1] != letter)


@lru_cache(maxsize=4)
def _squeezed(words: tuple[str, ...]) -> dict[str, list[str]]:
    table_: dict[str, list[str]] = {}
    for word in words:
        table_.setdefault(_squeeze(word), []).append(word)
    return table_


def _slips(word: str) -> Iterable[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        for letter in letters:
            yield head + letter + tail
            if tail:
                yield head + letter + tail[1:]
