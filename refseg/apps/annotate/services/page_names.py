"""Sentences that are nothing but what a page calls its objects: "number 1", "dog 2", "nunber l". Pure functions.

Validators see other numbers than writers, so such a sentence means nothing to them. What is read off it is what a
person reads: letters of other scripts by their shapes, digits for letters and letters for digits, slips of the finger.
Ordinary sentences with numbers pass: those that count ("two dogs"), that say where the number stands ("number 7 on the
shirt"), or whose number the page does not have ("bus 42").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache

from refseg.apps.annotate.services.letters import shapes_of
from refseg.apps.annotate.services.sentences import FILLING, plain, word_set
from refseg.data.stats import words_of
from refseg.generation.language.lexicon import number_word, ordinal, plural

__all__ = ["is_page_name"]

_NUMBERS = {"one": 1, **{number_word(count): count for count in range(2, 11)}, "eleven": 11, "twelve": 12}
_NUMBER_WORDS = word_set("number numbers no nos nr nrs nbr num nums numero numeros nummer hashtag")
# What pages call objects, beside their categories; the last ones are those of the page in Chinese.
_PAGE = _NUMBER_WORDS | word_set(
    "object objects objekt objet obj objs item items mask masks outline outlines shape shapes label labels region "
    "regions segment segments instance instances id ids box boxes bbox bboxes thing things target targets option "
    "options choice choices answer answers entry entries tag tags marker markers digit digits polygon polygons contour "
    "contours area areas element elements candidate candidates selection part parts figure color colour position slot "
    "\u53f7 \u7f16\u53f7 \u53f7\u7801 \u6570\u5b57 \u7269\u4f53 \u5bf9\u8c61 \u76ee\u6807 \u7b2c \u4e2a \u6846"
)
_THINGS = _NUMBER_WORDS | word_set("object item mask outline label region segment instance id")
_BEHIND = "\u53f7"  # follows its number
# What leads from such a word to its number, or on to the page. Not beside categories: "dogs in row 1" says where they
# are, and "boat marked 2" what can be read on it.
_ASKING = word_set("click press select choose pick push tap hit")
_LEADING = _ASKING | word_set(
    "it its key row in on at from called named numbered labeled labelled marked page list picture image photo screen "
    "display panel legend menu name you should see correct my"
)
# These wear numbers: "player 3" may be anybody's words.
_WEARERS = word_set("player batter pitcher catcher skier surfer rider skater snowboarder")
_ORDINALS = {ordinal(rank, digits): rank for rank in range(1, 13) for digits in (False, True)}
_SOUNDS = {"won": 1, "wan": 1, "too": 2, "tow": 2, "fore": 4, "ate": 8}
_ROMAN = {
    "i": 1,
    "ii": 2,
    "iii": 3,
    "iv": 4,
    "v": 5,
    "vi": 6,
    "vii": 7,
    "viii": 8,
    "ix": 9,
    "x": 10,
    "xi": 11,
    "xii": 12,
}
_SIGNS = re.compile(
    "[#\N{FULLWIDTH NUMBER SIGN}\N{NUMERO SIGN}\N{MUSIC SHARP SIGN}]"
    "|\\b[nN][\N{DEGREE SIGN}\N{RING ABOVE}\N{MASCULINE ORDINAL INDICATOR}]"
)
_DASHES = re.compile("[-\N{HYPHEN}-\N{HORIZONTAL BAR}\N{MINUS SIGN}_:]")  # "number-1", "dogs 1-3"
_STROKES = re.compile(r"(?<=\s)[|\]](?=\s|$)")  # for a one
_LISTING = re.compile("[,;&+/\u3001]")
_IDEOGRAPHS = re.compile("[\u3400-\u9fff]+")
_RUNS = re.compile(r"\d+|[^\W\d_]+")  # "number1", "1and2"
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_JOINING = ("and", "or", "to")
_DROPPED = FILLING | {"s"}
_AS_DIGITS = str.maketrans("lio", "110")
_AS_LETTERS = str.maketrans("013457", "oieast")


def is_page_name(text: str, categories: Collection[str], synonyms: Collection[str] = ()) -> bool:
    """Whether a sentence is nothing but what a page calls its objects: "number 3", "dog 2", "objects 1 and 4", "1".

    `categories` has the category of each object of the picture: numbers beyond theirs are no page's ("bus 42").
    `synonyms` are other words for them ("guy").
    """
    most = len(categories)
    known = {word for name in {*categories, *synonyms} for word in words_of(f"{name} {plural(name)}")}
    known -= {*_WEARERS, *(plural(word) for word in _WEARERS)} - {*categories}
    words = [part for word in words_of(_legible(text)) for part in _parts(word, known) if part not in _DROPPED]
    letters = "".join(word for word in words if word not in _JOINING)
    return _is_name(words, known, most) or _joined(most).fullmatch(letters) is not None


def _is_name(words: list[str], known: Collection[str], most: int) -> bool:
    if words == ["no", "one"]:
        return False
    numbers = [_number(word, words[place - 1] if place else "", most) for place, word in enumerate(words)]
    if words[:1] == ["one"] and any(numbers[1:]) and words[1] not in _JOINING:  # "the one labelled 1"
        words, numbers = words[1:], numbers[1:]
    rest = [word for word, number in zip(words, numbers, strict=True) if number is None and word not in _JOINING]
    if set(rest) & _ASKING and set(rest) - _ASKING <= {*known, "on"}:  # "click on dog 1"
        rest = [word for word in rest if word in known]
    leads = [word for word in rest if word in _LEADING and word not in known]
    names = [word for word in rest if word in known]
    if not any(numbers) or not all(word in leads or word in names or _names_page(word) for word in rest):
        return False
    if leads and names:
        return False
    if not rest:  # "1", "one and two"; "the two" are all
        return len(words) > 1 or words[0] == "one" or words[0] not in _NUMBERS
    return any(number and not _counts(words, place) for place, number in enumerate(numbers))


def _counts(words: list[str], place: int) -> bool:
    """Whether a number counts what follows it ("dog and 2 people"), and does not name what is before it."""
    before = words[place - 1] if place else "and"
    behind = words[place + 1] if place + 1 < len(words) else "and"
    if behind in (*_JOINING, _BEHIND):
        return False
    return before in _JOINING or (words[place] in _NUMBERS and not _names_page(before))


def _legible(text: str) -> str:
    """The sentence in plain letters: accents off, signs for numbers in words, what belongs apart apart."""
    signed = _SIGNS.sub(" number ", plain(_SIGNS.sub(" number ", _STROKES.sub("1", text))))  # again for wide letters
    bare = "".join(sign for sign in unicodedata.normalize("NFD", signed) if unicodedata.category(sign) != "Mn")
    return _IDEOGRAPHS.sub(
        _apart, _LISTING.sub(" and ", _DASHES.sub(" ", shapes_of(bare).replace("'s", " ").replace("\u2019s", " ")))
    )


def _apart(found: re.Match[str]) -> str:
    """Ideographs with spaces around those that are numbers, and around what follows one: "\u7b2c\u4e00\u4e2a"."""
    return " " + "".join(f" {sign} " if unicodedata.numeric(sign, 0) else sign for sign in found.group()) + " "


def _parts(word: str, known: Collection[str]) -> Iterator[str]:
    """A word as it is; one of letters and digits as the word or the number that it looks like, or taken apart."""
    if word in known or word.isdecimal() or word.isalpha() or _ORDINAL.fullmatch(word):
        yield word
    elif (letters := word.translate(_AS_LETTERS)) in _PAGE or letters in known or letters in _NUMBERS:
        yield letters
    elif (digits := word.translate(_AS_DIGITS)).isdecimal():
        yield digits
    else:
        yield from _RUNS.findall(word)


def _number(word: str, before: str, most: int) -> int | None:
    """The page's number that a word is; behind a word of the page also one that looks or sounds like it."""
    number = _NUMBERS.get(word)
    if number is None and word.isdecimal() and len(word) < 50:
        number = int(word)
    if number is None and len(word) == 1 and not word.isascii():
        number = int(unicodedata.numeric(word, 0))
    if number is None and word in ("l", "i"):
        number = 1
    if number is None and before and _names_page(before):
        number = _ROMAN.get(word) or (int(word.translate(_AS_DIGITS)) if set(word) == {"l"} else None)
    if number is None and before and _is_near(before, _THINGS):
        number = _ORDINALS.get(word)
    if number is None and before and _is_near(before, _NUMBER_WORDS):
        number = _SOUNDS.get(word) or next((count for name, count in _NUMBERS.items() if _is_slip(word, name)), None)
    return number if number is not None and 0 < number <= most else None


def _names_page(word: str) -> bool:
    return _is_near(word, _PAGE)


@lru_cache(maxsize=4096)
def _is_near(word: str, names: frozenset[str]) -> bool:
    """Whether a word is one of these, but for a slip of the finger (two in long ones)."""
    return word in names or any(_distance(word, name) <= (1 if len(name) < 6 else 2) for name in names if len(name) > 4)


def _is_slip(word: str, name: str) -> bool:
    """Whether a word is the name of a number with a slip: any in a long one, the same letters in another order, one
    twice ("fuor", "ttwo")."""
    if len(name) > 4:
        return _distance(word, name) <= 1
    return word != name and (
        (sorted(word) == sorted(name) and word[0] == name[0]) or re.sub(r"(.)\1", r"\1", word) == name
    )


def _distance(one: str, other: str) -> int:
    """Letters changed, missing, too many or swapped with their neighbour (restricted Damerau distance); 3 for more."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return min(3, row[-1])


@lru_cache(maxsize=64)
def _joined(most: int) -> re.Pattern[str]:
    """Names of the page whose letters were put apart or together: "n u m b e r 1", "numb er one", "numberone"."""
    names = "|".join(sorted((name for name in _PAGE if len(name) > 2), key=len, reverse=True))
    count = "|".join([*map(str, range(most, 0, -1)), *(word for word, number in _NUMBERS.items() if number <= most)])
    return re.compile(rf"(?:{names})+(?:{count})(?!\d)(?:(?:{names})*(?:{count})(?!\d))*" if most else r"(?!)")
