"""Referring expressions as structures: what is named, how it looks, where it is, and how it stands to other things.

    "second guy from the left in the red shirt next to the dog"
      -> Phrase(head="guy", rank=Rank(2, "left"), colours=("red",),
                relations=(Relation("next_to", (Phrase(head="dog"),)),))

The parser reads what people write: words in any order, no articles, abbreviations, slips. It never fails: what it
cannot place is listed in `Expression.ignored`. Slips are corrected for words outside every list only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refseg.models.instances.heard import heard
from refseg.models.instances.lookup import (
    common_word,
    is_noun,
    is_plural,
    link_at,
    noun_in,
    repaired,
    with_placed_names,
    words_of,
)
from refseg.models.instances.phrases import read_phrase
from refseg.models.instances.structure import Expression, Notes, Phrase, Place, Rank, Relation
from refseg.models.instances.vocabulary import EXCLUDING, GARMENTS, PARTS, PRONOUNS, QUANTIFIERS, SIZES

__all__ = ["MAX_WORDS", "Expression", "Phrase", "Place", "Rank", "Relation", "parse"]

MAX_WORDS = 60
"""Words of an expression that are read."""


def parse(text: str, is_word: Callable[[str], bool] = common_word) -> Expression:
    """The structure of an expression.

    Args:
        text: any text; words beyond `MAX_WORDS` are not read.
        is_word: whether a word outside the lists is spelt right (then it is not corrected).
    """
    words = words_of(text)
    cut = len(words) > MAX_WORDS
    words, slips = repaired(words[:MAX_WORDS], is_word)
    words = with_placed_names(words)
    notes = Notes()
    phrases = tuple(_union(words, notes))
    expression = Expression(
        text,
        phrases,
        slips=tuple(slips),
        cut=cut,
        unchecked=tuple(dict.fromkeys(notes.unchecked)),
        words=tuple(words),
        placed=tuple(dict.fromkeys(notes.used)),
    )
    found = heard(expression)
    return replace(expression, used=found.used, ignored=found.ignored, read_as=found.read_as)


def _union(words: list[str], notes: Notes) -> list[Phrase]:
    """The phrases of a conjunction, or the one phrase with what it excludes."""
    for at, excluding in _excluding(words):
        before, after = words[:at], words[at + len(excluding) :]
        if excluding[0] in ("all", "everyone", "everybody"):
            before = [*before, excluding[0]]
        if before and after:
            base, out = read_phrase(before, notes), read_phrase(after, notes)
            if not base.head or base.head in PRONOUNS:
                base = replace(base, head=base.head or out.head, many=True)
            if not out.head or out.head in PRONOUNS:
                out = replace(out, head=base.head, also=base.also)
            notes.used += excluding
            # "the bike, not the people on it": one, which everything else that is said picks
            return [replace(base, excluded=out, many=base.many or "not" not in excluding)]
    parts = _conjuncts(words)
    phrases = [read_phrase(part, notes) for part in parts]
    if len(phrases) == 1 and not phrases[0].head and phrases[0].unknown and not phrases[0].relations:
        # "partial out of view umbrella": the noun stands where no grammar looks for it.
        noun = next((word for word in words if is_noun(word) and word not in PRONOUNS), "")
        phrases = [replace(phrases[0], head=noun, many=phrases[0].many or is_plural(noun))]
    if len(phrases) > 1:
        notes.used.append("and")
        # "both in red": said of all
        shared = phrases[-1].colours if parts[-1] and {"both", "all"} & set(parts[-1][1:]) else ()
        phrases = [replace(phrase, colours=phrase.colours or shared) for phrase in phrases]
        if "both" in parts[-1][1:]:
            phrases[-1] = replace(phrases[-1], count=0, many=is_plural(phrases[-1].head))
    return phrases


def _excluding(words: list[str]) -> list[tuple[int, list[str]]]:
    """Where something is excluded. A bare "but" excludes after "all", "every" and the like."""
    for wording in EXCLUDING:
        parts = wording.split()
        for at in range(len(words) - len(parts)):
            if words[at : at + len(parts)] == parts and (at > 0 or parts[0] in ("all", "everyone", "everybody")):
                return [(at, parts)]
    if "but" in words[1:-1] and QUANTIFIERS & set(words[: words.index("but")]):
        return [(words.index("but"), ["but"])]
    return []


_JOINS = ("and", ",", "plus")


def _conjuncts(words: list[str]) -> list[list[str]]:
    """The parts of "the man and the dog": each has a noun of its own that is no garment, part or colour, and none
    continues what is linked before it ("with a cup and a plate", "between the cup and the plate")."""
    text = " ".join(words).replace("as well as", "and").replace("along with", "and").replace("and also", "and")
    words = with_placed_names(text.replace(", and", "and").split())
    parts: list[list[str]] = [[]]
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if word not in _JOINS or not parts[-1] or not rest:
            parts[-1].append(word)
        elif (_starts_phrase(rest) and not _continues(parts[-1], rest)) or _two_garments(parts[-1], rest):
            parts.append([])
        else:
            parts[-1].append(word)
    if len(parts) == 1 or not all(noun_in(_until_join(part)) for part in parts):
        return [words]
    return parts


def _until_join(words: list[str]) -> list[str]:
    superlatives = ("nearest", "closest", "near", "closer")
    links = (at for at in range(1, len(words)) if words[at] not in superlatives and link_at(words, at) is not None)
    link = next(links, len(words))
    return words[:link]


def _starts_phrase(rest: list[str]) -> bool:
    """Whether what follows "and" names something by itself."""
    first = _until_join(rest)
    nouns = [word for word in first if noun_in([word])]
    return bool(nouns) and not any(word in GARMENTS or word in PARTS for word in nouns[-1:])


def _two_garments(part: list[str], rest: list[str]) -> bool:
    """Whether garments are named one by one ("the shirt and the skirt", "biggest shirt and biggest skirt"), not as what
    one person wears ("blue shirt and jeans")."""
    alone = all(word in GARMENTS for word in part if noun_in([word]))
    alone = alone and not any(link_at(part, at) for at in range(len(part)))
    each = all(words[:1] == ["the"] or set(words[:2]) & set(SIZES) for words in (part, rest))
    return alone and each and any(word in GARMENTS for word in rest)


def _continues(part: list[str], rest: list[str]) -> bool:
    """Whether the words after "and" go on with a link of the part: "between X and Y", "with X and Y"."""
    links = [link[0] for at in range(len(part)) if (link := link_at(part, at)) is not None]
    if "between" in links and "and" not in part:
        return True
    if links[-1:] == ["wearing"]:  # things are not worn
        return not _starts_phrase(rest)
    return bool(links) and links[-1] in ("with", "of") and rest[0] not in ("the", "a", "an")
