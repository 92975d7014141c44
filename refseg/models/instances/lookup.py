"""What single words are, for the parser: nouns, garments, plurals, links; and text as words with slips corrected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from refseg.models.instances.vocabulary import (
    ACTIONS,
    COLOUR_WORDS,
    EXCLUDING,
    FILLERS,
    GARMENTS,
    LINKS,
    LOOKS,
    NEGATIONS,
    PARTITIVES,
    PARTS,
    PICTURE,
    PRONOUNS,
    SIDES,
    STRONG,
    known_words,
    words_in,
)
from refseg.models.instances.words import read_anchors, spelled, table

__all__ = [
    "FREQUENT_LINKS",
    "HOUR",
    "NO_PLURAL",
    "PLURAL_PEOPLE",
    "also_nouns",
    "common_word",
    "is_certain",
    "is_noun",
    "is_plural",
    "is_trait",
    "link_at",
    "noun_in",
    "repaired",
    "silent_words",
    "with_placed_names",
    "words_of",
]

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[,;]")
_CLOCK = re.compile(r"\b(?:at |at the )?(1[0-2]|[1-9]) ?o ?'? ?cl(?:o|oc|ock)\b")
_OUTERMOST = re.compile(
    r"\b(?:very far|far|furthest|farthest|most|extreme|very|all the way)(?: over)?(?: on| to| at)?(?: the)?"
    r" (left|right|top|bottom)\b|\b(left|right|top|bottom) most\b"
)
_CUT_OFF = re.compile(
    r"\b(?:(?:mostly |partly |partially |half |almost |slightly |barely )*(?:cut ?off|cropped(?: out| off)?|"
    r"out of (?:the )?(?:view|picture|pic|frame|shot|image|photo|screen))|"
    r"(?:partial|partially|partly|barely|half|hardly) (?:(?:in|shown|showing|visible|seen|in view)\b)|"
    r"(?:partial|partially|partly)(?: view of)?|"
    r"(?:all|only)(?: that)? you (?:can )?see is(?: a)?(?: bit| part| piece)?)\b"
)
"""What is said of things that the picture's edge cuts off."""
HOUR = "hour"
FREQUENT_LINKS = "with behind front next between holding wearing except closest sitting standing"
_SENTENCE_ENDS = re.compile(r"[.!?]+")
PLURAL_PEOPLE = words_in("people persons men women children kids guys ladies girls boys folks everyone everybody")
NO_PLURAL = words_in(
    """
    glasses sunglasses goggles pants jeans shorts skis scissors shoes boots gloves socks bus dress grass s us
    trunks clothes leggings tights glass tennis stripes dots overalls khakis trousers pajamas binoculars
    headphones heels pumps sneakers sandals loafers stockings accessories
    """
)


def words_of(text: str) -> list[str]:
    """Lower-case words and commas of a text, without possessive endings; "t-shirt", "w/", "far left", "5 o'clock" and
    "2 nd" as one word each."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").replace("`", "'")
    plain = _CLOCK.sub(lambda found: f" {HOUR}{found[1]} ", plain)
    plain = plain.replace("t-shirt", "tshirt").replace("w/", "with ").replace("&", " and ")
    plain = re.sub(r"\bt shirt", "tshirt", plain)
    plain = re.sub(r"\b(\w+)-(most|hand)\b", r"\1\2", plain)
    plain = re.sub(r"\b(is|are|was|were|do|does|did|has|have)n'?t\b", r"\1 not", plain)
    plain = re.sub(r"\bgrown[- ]?(up|ups)\b", r"grown\1", plain)
    plain = _CUT_OFF.sub(" cutoff ", plain)
    plain = _OUTERMOST.sub(lambda found: f" {found[1] or found[2]}most ", plain)
    plain = re.sub(r"\b(\d+) (st|nd|rd|th)\b", r"\1\2", plain)
    plain = _SENTENCE_ENDS.sub(" , ", plain)
    words = []
    for word in _WORD.findall(plain):
        stem, mark, end = word.partition("'")
        words.append(stem if mark and end in ("s", "") else word.replace("'", ""))
    while words and words[-1] == ",":
        words.pop()
    return words


@lru_cache(maxsize=1)
def _lists() -> frozenset[str]:
    """Every word that needs no correction."""
    single = {part for word in table() for part in word.split()}
    linking = {word for words, _ in LINKS for word in words.split()} | {
        w for wording in EXCLUDING for w in wording.split()
    }
    return frozenset(known_words()) | frozenset(single) | PICTURE | STRONG | FILLERS | linking


@lru_cache(maxsize=1)
def silent_words() -> frozenset[str]:
    """Words of which nobody needs to be told that they were not used."""
    linking = {word for words, _ in LINKS for word in words.split()} | {
        word for words in EXCLUDING for word in words.split()
    }
    return (FILLERS | PICTURE | PRONOUNS | PARTITIVES | linking | {",", "and"}) - ACTIONS - LOOKS - NEGATIONS


def repaired(words: list[str], is_word: Callable[[str], bool]) -> tuple[list[str], list[tuple[str, str]]]:
    """The words with slips corrected: only words outside every list that are no English word either."""
    result, slips = [], []
    for word in words:
        if word in _lists() or word == "," or word.startswith(HOUR) or len(word) < 3 or is_word(word):
            result.append(word)
            continue
        other = spelled(word, _frequency())
        result.append(other or word)
        if other:
            slips.append((word, other))
    return result, slips


@lru_cache(maxsize=1)
def _placed_names() -> dict[tuple[str, ...], str]:
    """Names that hold the word of a side ("front left door"), by their words."""
    names = (name.split() for name in table() if " " in name)
    return {tuple(name): " ".join(name) for name in names if any(word in SIDES for word in name)}


def with_placed_names(words: list[str]) -> list[str]:
    """The words with each name that holds the word of a side as one: such a side places nothing."""
    result: list[str] = []
    at = 0
    while at < len(words):
        length = next((n for n in (4, 3, 2) if tuple(words[at : at + n]) in _placed_names()), 1)
        result.append(" ".join(words[at : at + length]))
        at += length
    return result


@lru_cache(maxsize=1)
def _frequency() -> dict[str, int]:
    """Words a slip may be read as, in order of preference: of place and the like, class names, what people say."""
    ordered = ["the", "and", *known_words(), *FREQUENT_LINKS.split(), *(word for word in table() if word.isalpha())]
    return {word: -place for place, word in enumerate(dict.fromkeys(ordered)) if len(word) >= 3}


def common_word(word: str) -> bool:
    return word in read_anchors()


def noun_in(words: list[str]) -> bool:
    return any(is_noun(word) or word in ("piece", "slice", "pair", "group") for word in words)


@lru_cache(maxsize=1)
def _links() -> tuple[tuple[tuple[str, ...], str], ...]:
    ordered = sorted(LINKS, key=lambda item: -len(item[0].split()))
    return tuple((tuple(words.split()), name) for words, name in ordered)


@lru_cache(maxsize=1)
def _links_by_first() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for words, name in _links():
        found.setdefault(words[0], []).append((words, name))
    return found


def link_at(words: list[str], at: int) -> tuple[str, int] | None:
    """(name, how many words) of a link that starts at a word."""
    for wording, name in _links_by_first().get(words[at], ()):
        if tuple(words[at : at + len(wording)]) == wording:
            return name, len(wording)
    return None


_ALSO_NOUNS: ContextVar[Callable[[str], bool] | None] = ContextVar("also_nouns", default=None)


@contextmanager
def also_nouns(known: Callable[[str], bool]) -> Iterator[None]:
    """Inside, words are nouns, too, of which `known` says so: things that the detector's classes do not hold."""
    token = _ALSO_NOUNS.set(known)
    try:
        yield
    finally:
        _ALSO_NOUNS.reset(token)


def _is_also_noun(word: str) -> bool:
    known = _ALSO_NOUNS.get()
    return known is not None and known(word)


def is_noun(word: str) -> bool:
    if word in FILLERS or word in SIDES or (word in COLOUR_WORDS and word != "orange"):
        return False
    return word in table() or (word in PRONOUNS and word not in ("it", "other", "others")) or _is_also_noun(word)


def is_certain(noun: str) -> bool:
    """Whether the things that a noun names can be told from others, so that their absence says something."""
    return max(table().get(noun, {}).values(), default=0.0) >= 0.9 or _is_also_noun(noun)


def is_trait(noun: str) -> bool:
    return noun in GARMENTS or noun in PARTS


def is_plural(noun: str) -> bool:
    if noun in PLURAL_PEOPLE:
        return True
    last = noun.split()[-1] if noun else ""
    if last in NO_PLURAL or not last.endswith("s") or last.endswith("ss"):
        return False
    return (
        noun[:-1] in table()
        or noun[:-2] in table()
        or (noun[:-3] + "y") in table()
        or noun[:-3] + "f" in table()
        or noun[:-3] + "fe" in table()
    )
