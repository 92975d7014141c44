"""What the system reads off a sentence by itself: its words, its twins, its numbers, its kind. Pure functions.

The kinds are those of the drawn scenes (`refseg.generation.language.propose.KINDS`), read off signal words; they sort
a growing
data set and are no grammar. gRefCOCO's paper names counting, compound and exclusion as the marks of sentences with
several targets (Liu, Ding, Jiang, CVPR 2023, section 3).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from refseg.apps.annotate.game import clean
from refseg.apps.annotate.services.letters import shapes_of
from refseg.data.stats import words_of
from refseg.generation.language.lexicon import number_word, ordinal

__all__ = ["FILLING", "KINDS", "are_near", "count_warning", "kind_of", "plain", "same_key", "word_set"]


def word_set(text: str) -> frozenset[str]:
    """The words of a text that is a list of them."""
    return frozenset(text.split())


KINDS = (
    "exclusion", "counting", "compound", "ordinal", "comparison", "relation", "location", "attribute", "category",
    "other",
)  # fmt: skip
"""In the order in which they are tried: the first that fits is a sentence's kind."""

_NUMBERS = {number_word(count): count for count in range(2, 11)} | {
    "eleven": 11, "twelve": 12, "both": 2, "couple": 2, "pair": 2, "dozen": 12,
}  # fmt: skip
_ORDINALS = {ordinal(rank) for rank in range(1, 11)} | {ordinal(rank, digits=True) for rank in range(1, 31)} | {"last"}
# Without these a sentence says the same.
FILLING = word_set("a an the that this these those is are was were there please some of")
# Words that give those around them an order: with one of them, the same words in another order may mean another thing.
# "left" and "right" are none: "man left" and "left man" are the same.
_ORDERING = word_set(
    """
    with without and or not no but except excluding than on in at under over above below behind beside between by near
    next front of to from holding wearing riding carrying touching facing watching who which whose where
    """
)
_AFTER_PRONOUN = word_set("is are was were that this to s of wears looks most farthest closest nearest")
_EXCLUDING = re.compile(r"\b(except|excluding|without|besides|other than|apart from|but not|not the|all but|not)\b")
_RELATING = re.compile(
    r"\b(with|behind|beside|between|near|next to|in front of|on|under|above|below|over|holding|wearing|riding|carrying|"
    r"touching|facing|watching|closest to|nearest|by|in|inside|at|against|around|along)\b"
)
_PLACE = re.compile(
    r"\b(left|right|top|bottom|middle|center|centre|upper|lower|front|back|far|near|corner|edge|side|foreground|"
    r"background|above|below)\b"
)
_PLACE_PHRASE = re.compile(
    r"\b(?:(?:on|at|in|to|by) )?(?:the )?(?:far |very |upper |lower )*"
    r"(?:left|right|top|bottom|middle|center|centre|front|back|corner|edge|foreground|background)"
    r"(?:[ -](?:side|hand|corner|edge|most|left|right|half|row))*"
    r"(?: of (?:the )?(?:picture|image|photo|screen|frame))?\b"
)
_COMPARING = re.compile(
    r"\b(biggest|smallest|largest|tallest|shortest|longest|bigger|smaller|larger|taller|shorter|longer|older|younger|"
    r"oldest|youngest|darkest|lightest|brightest|nearest|farthest|furthest|closest|highest|lowest|widest|"
    r"(?:left|right|top|bottom)[ -]?most|than|most|least)\b"
)
_JOINING = re.compile(r"\b(and|or|as well as|plus|along with)\b|,|&|\+")


def same_key(text: str) -> tuple[str, ...]:
    """Equal for sentences that differ in case, punctuation, articles and the way numbers are written."""
    words = words_of(plain(text))
    return tuple(_as_digits(word) for word in words if word not in FILLING) or tuple(words)


def are_near(one: str, other: str) -> bool:
    """Whether two sentences that are not the same say nearly the same.

    The same words in another order, unless a word between them gives the order a meaning ("dog with bike"); or one
    letter changed, missing or too many in one word of at least five letters, plural endings aside.
    """
    first, second = same_key(one), same_key(other)
    if first == second:
        return True
    if sorted(first) == sorted(second):
        return _ORDERING.isdisjoint(first)
    if len(first) != len(second):
        return False
    different = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    return len(different) == 1 and _is_slip(*different[0])


def count_warning(text: str, targets: int) -> str | None:
    """What is odd about the sentence's numbers beside `targets` selected objects; None where they agree.

    Numbers of what is meant are looked for before the first word that turns to something else ("person with two dogs").
    Several numbers joined by "and" add up; with a part that has no number ("two men and a dog") they are the least.
    """
    words = words_of(_RELATING.split(_EXCLUDING.split(text.lower())[0])[0])
    numbers = [
        number
        for place, word in enumerate(words)
        if (number := _cardinal(word) or _single(words, place)) is not None
        and not (place and words[place - 1] in ("number", "no", "row"))
    ]
    if not numbers or _EXCLUDING.search(text.lower()):
        return None
    counted = sum(numbers)
    parts = len([part for part in _JOINING.split(text.lower()) if part and words_of(part)])
    open_end = parts > len(numbers)
    if targets == counted or (open_end and targets > counted):
        return None
    least = "at least " if open_end else ""
    return (
        f"the sentence counts {least}{counted}, but {targets} {'object is' if targets == 1 else 'objects are'} selected"
    )


def kind_of(text: str, nouns: frozenset[str] = frozenset()) -> str:
    """The first of `KINDS` that fits; `nouns` are the category words in the sentence, as it has them."""
    lower = " ".join(text.lower().split())
    words = words_of(lower)
    without_place = _PLACE_PHRASE.sub(" ", lower)
    if _EXCLUDING.search(lower):
        return "exclusion"
    if any(_cardinal(word) is not None for word in words):
        return "counting"
    if _JOINING.search(lower):
        return "compound"
    if not _ORDINALS.isdisjoint(words):
        return "ordinal"
    if _COMPARING.search(lower):
        return "comparison"
    if _RELATING.search(without_place):
        return "relation"
    if _PLACE.search(lower):
        return "location"
    if nouns:
        rest = set(words) - {word for noun in nouns for word in noun.split()} - FILLING
        return "attribute" if rest else "category"
    return "other"


def plain(text: str) -> str:
    """The sentence with ordinary letters for those that mean the same (NFKC: wide ones, digits in circles), or look the
    same in a whole word."""
    return shapes_of(clean(unicodedata.normalize("NFKC", text)))


def _single(words: Sequence[str], place: int) -> int | None:
    """1 for the "one" of "one dog"; not for that of "the one in red", "one on the left", "black one", "each one"."""
    if words[place] not in ("one", "single") or place + 1 == len(words):
        return None
    if words[place + 1] in _ORDERING or words[place + 1] in _AFTER_PRONOUN:
        return None
    before = words[place - 1] if place else ""
    return 1 if words[place] == "single" or before in ("", "and", "just", "only", "exactly", "plus") else None


def _as_digits(word: str) -> str:
    number = _cardinal(word)
    return word if number is None else str(number)


def _cardinal(word: str) -> int | None:
    if word.isdecimal() and word.isascii() and len(word) < 3 and int(word) > 1:
        return int(word)
    return _NUMBERS.get(word)


def _is_slip(one: str, other: str) -> bool:
    """Whether two words of at least five letters are one slip of the finger apart, and not singular and plural."""
    if min(len(one), len(other)) < 5 or {one, other} in ({one, one + "s"}, {other, other + "s"}):
        return False
    if not (one.isalpha() and other.isalpha()):
        return False
    if len(one) == len(other):
        different = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        if len(different) == 1:
            return one[:1] == other[:1] and {one[different[0]], other[different[0]]} != {"a", "e"}  # woman, women
        swapped = len(different) == 2 and different[1] == different[0] + 1
        return swapped and one[different[0]] == other[different[1]] and one[different[1]] == other[different[0]]
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    if len(longer) != len(shorter) + 1:
        return False
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))
