"""Which things a sentence names, and what that says beside the things that the picture has. Pure functions.

gRefCOCO's first rule for sentences without target: they cannot be totally irrelevant to the picture (Liu, Ding, Jiang,
CVPR 2023, section 3). The categories of the picture's objects stand for what it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from refseg.apps.annotate.services.sentences import kind_of, word_set
from refseg.data.stats import words_of
from refseg.generation.language.lexicon import normal_name, plural, surfaces_of

__all__ = ["Nouns", "deceptive", "no_target_remarks"]

_LONGEST = 3
# What people call people. Each is a person; that a picture has a person does not say which of these.
_PEOPLE = word_set(
    """
    person people man men woman women boy girl kid child children adult guy lady gentleman fellow baby toddler player
    batter pitcher catcher umpire skier surfer rider skater snowboarder chef waiter bride groom someone somebody human
    """
)
_PEOPLE_NAMES = frozenset(("person", "man", "woman", "boy", "girl", "kid", "adult", "rider"))
# Wider words and some of what they take in.
_WIDE: dict[str, tuple[str, ...]] = {
    "animal": ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "duck"),
    "vehicle": ("car", "bus", "truck", "train", "bicycle", "motorcycle", "boat", "airplane", "van"),
    "fruit": ("banana", "apple", "orange"),
    "food": ("banana", "apple", "orange", "sandwich", "pizza", "donut", "cake", "carrot", "broccoli"),
    "furniture": ("chair", "couch", "bed", "dining table", "table", "lamp"),
}


class Nouns:
    """The words for a set of categories, to be looked for in sentences."""

    def __init__(self, categories: Iterable[str]) -> None:
        self._meaning: dict[str, set[str]] = {}
        for name in {normal_name(category) for category in categories} - {""}:
            for word in surfaces_of(name):
                self._add(word, name)
                self._add(plural(word), name)
            if name in _PEOPLE_NAMES:
                for word in _PEOPLE:
                    self._add(word, "person")
                    self._add(plural(word), "person")
        names = set().union(*self._meaning.values())
        for wide, members in _WIDE.items():
            for name in names.intersection(members):
                self._add(wide, name)
                self._add(plural(wide), name)

    def find(self, text: str) -> dict[str, frozenset[str]]:
        """The category words in a sentence, longest first, each with the categories that it can mean."""
        words = words_of(text)
        names: dict[str, frozenset[str]] = {}
        place = 0
        while place < len(words):
            for length in range(min(_LONGEST, len(words) - place), 0, -1):
                phrase = " ".join(words[place : place + length])
                if phrase in self._meaning:
                    names[phrase] = frozenset(self._meaning[phrase])
                    place += length
                    break
            else:
                place += 1
        return names

    def names(self, categories: Collection[str]) -> set[str]:
        """All words that mean one of these categories."""
        wanted = present_names(categories)
        return {word for word, meant in self._meaning.items() if not wanted.isdisjoint(meant)}

    def _add(self, word: str, name: str) -> None:
        self._meaning.setdefault(word, set()).add(name)


@lru_cache(maxsize=8)
def nouns_of(categories: frozenset[str]) -> Nouns:
    """The words for these categories, kept for the next request."""
    return Nouns(categories)


def present_names(categories: Collection[str]) -> frozenset[str]:
    """The normal names of a picture's categories; people count as persons besides."""
    names = {normal_name(category) for category in categories}
    return frozenset(names | ({"person"} if not names.isdisjoint(_PEOPLE_NAMES) else set()))


def no_target_remarks(text: str, nouns: Nouns, present: Collection[str]) -> list[tuple[str, str]]:
    """What is to be said of a sentence without target, as (code, message).

    "irrelevant": it names things, and the picture has none of them. "names_present": it is nothing but the name of
    something that the picture has, so it seems to have targets.
    """
    named = nouns.find(text)
    there = present_names(present)
    categories = frozenset().union(*named.values())
    if not categories:
        return []
    if categories.isdisjoint(there):
        return [
            ("irrelevant", f"the picture has no {' or '.join(named)}: a sentence without target still fits its picture")
        ]
    if kind_of(text, frozenset(named)) == "category":
        shown = ", ".join(sorted(categories & there))
        return [("names_present", f"the picture has {shown}: is there really nothing that the sentence means?")]
    return []


def deceptive(text: str, nouns: Nouns, present: Collection[str]) -> bool:
    """Whether a sentence of another picture may deceive on this one: it names something that is there, and more."""
    named = nouns.find(text)
    categories = frozenset().union(*named.values())
    return not categories.isdisjoint(present_names(present)) and kind_of(text, frozenset(named)) != "category"
