"""Nouns with their paraphrases and plurals, articles, numbers."""

from __future__ import annotations

import random

__all__ = ["PEOPLE_NOUNS", "article", "number_word", "ordinal", "plural", "speakable", "word_for"]

PEOPLE_NOUNS = frozenset(("person", "adult", "kid", "man", "woman", "boy", "girl"))
_FAMILY_NOUNS = frozenset(("person", "adult", "kid", "animal", "vehicle", "furniture", "toy", "thing"))
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "man": ("man", "man", "guy", "gentleman"),
    "woman": ("woman", "woman", "lady"),
    "boy": ("boy", "boy", "little boy"),
    "girl": ("girl", "girl", "little girl"),
    "kid": ("kid", "kid", "child"),
    "adult": ("adult", "grown-up"),
    "bicycle": ("bike", "bicycle"),
    "sofa": ("sofa", "couch"),
    "couch": ("couch", "sofa"),
    "cup": ("cup", "cup", "mug"),
    "teddy bear": ("teddy bear", "teddy"),
    "furniture": ("piece of furniture",),
    "thing": ("thing", "object"),
    "suitcase": ("suitcase", "suitcase", "bag"),
    "tv": ("tv", "television"),
}
# "guys" may include women, so these have no plural of their own.
_SINGULAR_ONLY = frozenset(("guy", "gentleman"))
_PLURALS = {
    "man": "men",
    "woman": "women",
    "person": "people",
    "child": "children",
    "mouse": "mice",
    "sheep": "sheep",
    "scissors": "scissors",
    "skis": "skis",
    "knife": "knives",
    "piece of furniture": "pieces of furniture",
    "broccoli": "pieces of broccoli",
    "foot": "feet",
    "goose": "geese",
    "tooth": "teeth",
    "ox": "oxen",
    "deer": "deer",
    "fish": "fish",
    "moose": "moose",
    "bison": "bison",
    "aircraft": "aircraft",
    "spacecraft": "spacecraft",
    "wife": "wives",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "hero": "heroes",
    "cactus": "cacti",
    "roof": "roofs",
    "quiz": "quizzes",
    "passerby": "passersby",
}
_TO_VES = ("leaf", "loaf", "shelf", "calf", "wolf", "half", "thief", "scarf", "knife", "life", "elf", "hoof")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def plural(noun: str) -> str:
    """The plural of a noun or compound noun ("wine glass" -> "wine glasses")."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    head, of, rest = noun.partition(" of ")
    if of:
        return f"{plural(head)} of {rest}"
    head, space, last = noun.rpartition(" ")
    if space:
        return f"{head} {plural(last)}"
    if last.endswith(("man", "woman", "child")) and last not in ("human", "german", "roman"):
        return last + "ren" if last.endswith("child") else last[:-3] + "men"
    if last.endswith(_TO_VES) and not last.endswith(("belief", "yourself")):
        return last.removesuffix("e")[:-1] + "ves"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return last + "es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return last[:-1] + "ies"
    return last + "s"


def article(words: str) -> str:
    """The words with "a" or "an" in front, by sound."""
    first = words.lower().replace("-", " ").split(" ", 1)[0]
    vowel = first.startswith(("a", "e", "i", "o", "u", "hour", "honest", "heir"))
    if first.startswith(("uni", "use", "uten", "ukul", "eu", "ewe", "one")) and not first.startswith("unin"):
        vowel = False
    if first in ("suv", "rv", "hdtv", "led", "lcd", "mp3", "x"):  # letters spoken one by one
        vowel = True
    return f"{'an' if vowel else 'a'} {words}"


def ordinal(rank: int, digits: bool = False) -> str:
    """ "second" or "2nd"."""
    if not digits and rank < len(_ORDINALS):
        return _ORDINALS[rank]
    tail = "th" if 10 <= rank % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{tail}"


def number_word(count: int) -> str:
    """ "two", or the digits from eleven on."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def speakable(noun: str, category: bool) -> bool:
    """Whether a family has a word that people use (categories always have)."""
    return category or noun in _FAMILY_NOUNS


def word_for(noun: str, rng: random.Random, many: bool) -> str:
    """One of the words that people use for a category or family, in the plural if `many`."""
    choices = _SYNONYMS.get(noun, (noun,))
    if many:
        choices = tuple(choice for choice in choices if choice not in _SINGULAR_ONLY)
    word = rng.choice(choices)
    return plural(word) if many else word
