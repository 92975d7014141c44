"""What single words are: which classes a noun means, with weights; plurals, garments, links; and text as words.

word -> name of a class ("couch"), or what people say for it ("sofa", "guy", "animal")   nouns.tsv
     -> known to name a class or none ("beagle", "ketchup")                              anchors.tsv
     -> one slip away from either ("girafe", "dgo")       as that word, if its letters are not another known word's
     -> like either in MiniLM's eyes ("feline", "stove")  by its nearest anchors, unless those name no class
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from refseg.encoders.text.minilm import MiniLM, WordPieces
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.nouns import NounAnchors, read_anchors, table
from refseg.models.instances.spelling import spelled
from refseg.models.instances.vocabulary import (
    ACTIONS,
    COLOUR_WORDS,
    EXCLUDING,
    FILLERS,
    FREQUENT_LINKS,
    GARMENTS,
    LINKS,
    LOOKS,
    NEGATIONS,
    NO_PLURAL,
    PARTITIVES,
    PARTS,
    PICTURE,
    PLURAL_PEOPLE,
    PRONOUNS,
    SIDES,
    STRONG,
    known_words,
)

__all__ = [
    "HOUR", "SAID", "Lexicon", "Meaning", "also_nouns", "common_word", "is_certain", "is_noun", "is_plural", "is_trait",
    "link_at", "noun_in", "repaired", "silent_words", "with_placed_names", "words_of",
]  # fmt: skip

SAID = 0.9
"""Weight of a class that a noun names by likeness or by `anchors.tsv`."""
SURELY_NONE = 0.5
"""Cosine with a noun of no class from which a word is taken for one like it, rather than for unknown."""
NEAR_MISS = 0.15
"""Lower bound of a weight that is kept."""
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
_SENTENCE_ENDS = re.compile(r"[.!?]+")


@dataclass(frozen=True)
class Meaning:
    """What one noun means: a weight (0 to 1) for each of `CLASSES`, and how that is known.

    `how` is "name", "said", "spelling" (of `read_as`), "similar" (to `read_as`), "none" (like what is no class, such as
    `read_as`) or "unknown" (nothing is like it). Weights are all zero for the last two.
    """

    word: str
    weights: tuple[tuple[int, float], ...]
    how: str
    read_as: str = ""

    @property
    def known(self) -> bool:
        """Whether it means any class."""
        return bool(self.weights)

    def vector(self) -> Float[Tensor, " A"]:
        """The weights as a tensor."""
        found = torch.zeros(len(CLASSES))
        for index, weight in self.weights:
            found[index] = weight
        return found


class Lexicon:
    """Nouns to `Meaning`s, remembered; `encoder`, `pieces` and `anchors` are None without pretrained language."""

    remembered = 4096
    """Nouns of which the meaning is kept."""

    def __init__(
        self,
        encoder: MiniLM | None = None,
        pieces: WordPieces | None = None,
        anchors: NounAnchors | None = None,
        temperature: float = 0.06,
        least: float = 0.42,
        excluded: Sequence[str] = (),
    ) -> None:
        """
        Args:
            temperature: of the softmax over classes' best anchors.
            least: cosine below which a noun is like nothing.
            excluded: classes that are never meant (the detector at hand has them not).
        """
        self.encoder, self.pieces, self.anchors = encoder, pieces, anchors
        self.temperature, self.least = temperature, least
        self.excluded = frozenset(excluded)
        self._kept: OrderedDict[str, Meaning] = OrderedDict()

    def __call__(self, word: str) -> Meaning:
        """The meaning of a noun or of a compound of some words, lower case."""
        if word in self._kept:
            self._kept.move_to_end(word)
            return self._kept[word]
        meaning = self._look_up(word)
        if self.excluded:
            meaning = replace(
                meaning,
                weights=tuple((i, w) for i, w in meaning.weights if CLASSES[i] not in self.excluded),
            )
        self._kept[word] = meaning
        if len(self._kept) > self.remembered:
            self._kept.popitem(last=False)
        return meaning

    def named(self, word: str) -> Meaning | None:
        """The meaning if the word is in the table as it is."""
        shares = table().get(word)
        if shares is None:
            return None
        how = "name" if max(shares.values()) == 1.0 else "said"
        return Meaning(word, tuple((CLASSES.index(name), share) for name, share in shares.items()), how)

    def likeness(self, word: str, others: Sequence[str]) -> list[float]:
        """Cosines of a noun's sentence vector with those of others, -1 to 1; zeros without pretrained language."""
        if self.encoder is None or self.pieces is None or not others:
            return [0.0] * len(others)
        with torch.inference_mode():
            first, *rest = F.normalize(self.encoder(self.pieces([word, *others])).sentence, dim=-1)
            return [float(first @ other) for other in rest]

    def _look_up(self, word: str) -> Meaning:
        found = self.named(word)
        if found is not None:
            return found
        noun = read_anchors().get(word) or read_anchors().get(_singular(word))
        if noun is not None:
            weights = () if noun == "none" else ((CLASSES.index(noun), SAID),)
            return Meaning(word, weights, "none" if noun == "none" else "said", noun)
        if " " not in word and not self._is_word(word):
            other = spelled(word, table())
            if other is not None:
                meant = self.named(other)
                assert meant is not None
                return replace(meant, word=word, how="spelling", read_as=other)
        return self._similar(word)

    def _is_word(self, word: str) -> bool:
        """Whether an English word is spelt so (a piece of BERT's vocabulary by itself), so that it is no slip."""
        return self.pieces is not None and word in self.pieces.numbers

    def _similar(self, word: str) -> Meaning:
        if self.encoder is None or self.pieces is None or self.anchors is None:
            return Meaning(word, (), "unknown")
        with torch.inference_mode():
            cosines = self.anchors(self.encoder(self.pieces([word])).sentence)[0]
        best: dict[str, tuple[float, str]] = {}
        for value, noun, name in zip(cosines.tolist(), self.anchors.nouns, self.anchors.classes, strict=True):
            if value > best.get(name, (-1.0, ""))[0]:
                best[name] = (value, noun)
        first = max(best, key=lambda name: best[name][0])
        if best[first][0] < self.least:
            return Meaning(word, (), "unknown", best[first][1])
        names = list(best)
        shares = (torch.tensor([best[name][0] for name in names]) / self.temperature).softmax(0).tolist()
        weights = tuple(
            (CLASSES.index(name), share)
            for name, share in zip(names, shares, strict=True)
            if name != "none" and share >= NEAR_MISS
        )
        if first == "none" and best[first][0] < SURELY_NONE:
            return Meaning(word, (), "unknown", best[first][1])
        if first == "none" or not weights:
            return Meaning(word, (), "none", best[first][1])
        largest = max(share for _, share in weights)
        scaled = tuple((index, SAID * share / largest) for index, share in weights)
        return Meaning(word, scaled, "similar", best[first][1])


def _singular(word: str) -> str:
    """A guess at the singular."""
    for end, instead in (
        ("ies", "y"),
        ("ves", "f"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("xes", "x"),
        ("s", ""),
    ):
        if word.endswith(end) and len(word) > len(end) + 2 and not word.endswith("ss"):
            return word[: -len(end)] + instead
    return word


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
