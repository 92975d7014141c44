"""The words of generated expressions (`lexicon.toml`): names of categories, plurals, articles, numbers, synonyms."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from refseg.config import read_toml
from refseg.palette import COLOR_WORDS

_TABLES = read_toml(Path(__file__).with_suffix(".toml"))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split(","))


def _table(name: str) -> dict[str, tuple[str, ...]]:
    return {key: _listed(text) for key, text in _TABLES[name].items()}


def _list(name: str) -> tuple[str, ...]:
    return _listed(_TABLES["lists"][name])


PEOPLE = _table("people")
"""Nouns for people, each with the wider nouns that take it in."""
PEOPLE_NOUNS = frozenset(PEOPLE)
FAMILY_NOUNS = frozenset(("person", "adult", "kid", "animal", "vehicle", "furniture", "toy", "thing"))
"""Wider nouns of the drawn world that people use."""
EVERYDAY = _table("everyday")
"""What people call each of COCO's categories, singular."""
HYPERNYMS = _table("hypernyms")
"""Wider nouns and the categories that each takes in."""
FILLERS = _list("fillers")
"""Nouns that say nothing: "thing"."""
PARAPHRASES = _table("paraphrases")
PERSON_PARAPHRASES = _table("person_paraphrases")
RARE = _list("rare")
"""Things that hardly ever stand in a picture without being what it shows."""
GROUNDED = PEOPLE_NOUNS | frozenset(_list("on_the_ground"))
"""Categories that stand on the ground: lower in the picture and larger is nearer."""
CUT_OUT = GROUNDED | frozenset(_list("cut_out"))
"""Categories of things that are whole by themselves, and may be cut out of pictures."""
WORN: dict[str, str] = _TABLES["worn"]
"""The trait of a person whose garment of this category is annotated in the same picture."""
CLASS_SHARES: dict[str, dict[str, float]] = {
    **{word: {"person": 1.0} for word in _list("people_words")},
    **{word: {"person": 0.5} for word in _list("said_of_people")},
    **_TABLES["class_shares"],
}
"""First shares of words in COCO's categories, 0 to 1, where they differ from what the other tables give."""
COLOR_SHARES: dict[str, dict[str, float]] = _TABLES["color_shares"]
"""First shares of words in the basic colour terms, 0 to 1."""

_ALIASES = {alias: name for name, aliases in _table("aliases").items() for alias in aliases}
_DRAWN = _table("drawn")
_PLURALS: dict[str, str] = _TABLES["plurals"]
_TO_VES = _list("irregular_ves")
_SINGULAR_ONLY, _SIDES = frozenset(_list("singular_only")), frozenset(_list("sides"))
_PAIRS, _MASSES = frozenset(_list("pairs")), frozenset(_list("masses"))
_WITHOUT_COLOR = frozenset(_list("without_color"))
_COLORS_IN_NAMES = frozenset((*COLOR_WORDS, *_list("color_words")))
_LOOK_ALIKES = tuple(frozenset(_listed(group)) for group in _TABLES["lists"]["look_alikes"])
_ENDS_IN_S = re.compile(r"(ss|us|is|as|ous|news|lens|bus|gas|canvas|sheep|series|species|compass|tennis|chassis)$")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def _synonyms(entries: Iterable[str]) -> dict[str, frozenset[str]]:
    """Words, each with the categories in parentheses beside which it could be misunderstood."""
    pairs = (entry.rstrip(")").partition(" (") for entry in entries)
    return {word: frozenset(rivals.split()) for word, _, rivals in pairs}


_PHOTOGRAPHED = {name: _synonyms(entries) for name, entries in _table("photographed").items()}


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


@cache
def normal_name(name: str) -> str:
    """A category's name as people write it: "tvmonitor" -> "tv", "car_(automobile)" -> "car", "TrafficLight" -> ..."""
    text = re.sub(r"\([^)]*\)", " ", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text.replace("_", " ").replace("/", " "))
    text = " ".join(text.lower().split())
    return _ALIASES.get(text, text)


def surfaces_of(name: str) -> tuple[str, ...]:
    """All words for a category by its normal name, its own among them, in the singular: "couch", "sofa"."""
    aliases = (alias for alias, category in _ALIASES.items() if category == name)
    return tuple(dict.fromkeys((name, *_PHOTOGRAPHED.get(name, {}), *aliases)))


def countability(name: str) -> str:
    """ "count" (cup, cups), "pair" (pair of skis) or "mass" (hair, and groups under one name such as "cars")."""
    last = name.rsplit(" ", 1)[-1]
    if last in _PAIRS:
        return "pair"
    if name in _MASSES or last in _MASSES:
        return "count" if name in _PHOTOGRAPHED else "mass"
    if last.endswith("s") and not _ENDS_IN_S.search(last) and name not in _PHOTOGRAPHED:
        return "mass"
    return "count"


def families_of(name: str, supercategory: str) -> tuple[str, ...]:
    """Wider nouns: people always, "animal" and "vehicle" where the file itself groups so (then it lists them all)."""
    if name in PEOPLE:
        return PEOPLE[name]
    return (supercategory,) if supercategory in ("animal", "vehicle") else ()


def look_alikes(name: str) -> str:
    """One word for all categories that are easily taken for each other."""
    return next((f"look-alike {number}" for number, group in enumerate(_LOOK_ALIKES) if name in group), name)


def names_no_color(name: str) -> bool:
    """Whether things of a category are not called by the colour of their pixels."""
    return name in _WITHOUT_COLOR or not _COLORS_IN_NAMES.isdisjoint(name.split())


def has_side_in_name(name: str) -> bool:
    """Whether the name itself holds a word such as "left": with another one it would be misread."""
    return not _SIDES.isdisjoint(name.replace("-", " ").split())


def word_for(noun: str, rng: random.Random, many: bool) -> str:
    """One of the words for a category or family of the drawn world, in the plural if `many`."""
    choices = [word for word in _DRAWN.get(noun, (noun,)) if not (many and word in _SINGULAR_ONLY)]
    word = rng.choice(choices or [noun])
    return plural(word) if many else word


class PhotoWords:
    """Chooses words for the nouns of one picture: none that also fits another category there."""

    def __init__(self, rng: random.Random, present: Collection[str]) -> None:
        self.rng = rng
        self.present = frozenset(present)

    def __call__(self, name: str, many: bool, counted: bool) -> str:
        """A word for `name`, in the plural if `many`; pairs as such where they are `counted`."""
        kind = countability(name)
        if kind == "mass" or (kind == "pair" and not many and not counted):
            return name
        if kind == "pair":
            return f"pairs of {name}" if many else f"pair of {name}"
        choices = [
            word
            for word, rivals in _PHOTOGRAPHED.get(name, {name: ()}).items()
            if self.present.isdisjoint(set(rivals) - {name}) and not (many and word in _SINGULAR_ONLY)
        ]
        # The category's own word more often than the others, as in people's expressions.
        word = self.rng.choice([choices[0], *choices]) if choices else name
        return plural(word) if many else word


def _tokens() -> tuple[str, ...]:
    spoken = [*EVERYDAY, *HYPERNYMS, *FILLERS, *(word for words in EVERYDAY.values() for word in words)]
    words = [word for text in spoken for word in (*text.split(), plural(text).split()[-1])]
    return tuple(dict.fromkeys((*words, *_list("common"))))


TOKENS = _tokens()
"""All words for categories, and other common ones of referring expressions: a vocabulary ought to know them."""
