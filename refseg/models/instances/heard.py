"""Which words of an expression an answer rests on, and which it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refseg.models.instances.lookup import silent_words
from refseg.models.instances.structure import Expression, Phrase, Relation
from refseg.models.instances.vocabulary import ACTIONS, POSSESSING, PRONOUNS, READ_AS_WITH
from refseg.models.instances.words import Meaning

__all__ = ["Heard", "MeaningOf", "heard"]

MeaningOf = Callable[[Phrase], Meaning | None]
"""The meaning of a phrase's noun, None where it has none (`Chooser.meaning`)."""


@dataclass(frozen=True)
class Heard:
    """Words in the order in which they stand: `used` speak for the answer, `ignored` have meanings that were not used.

    `read_as` are actions of which only the relation was read.
    """

    used: tuple[str, ...]
    ignored: tuple[str, ...]
    read_as: tuple[tuple[str, str], ...]


def heard(expression: Expression, meaning_of: MeaningOf | None = None) -> Heard:
    """What becomes of each word of a parsed expression.

    `meaning_of` tells what nouns mean to the model at hand; without, every noun of the parser's means something and
    words outside its lists mean nothing.
    """
    used = set(expression.placed)
    read_as = [pair for phrase in expression.phrases for pair in _collect(phrase, used, meaning_of)]
    told = {word for piece in expression.unchecked for word in piece.split()} | {word for word, _ in read_as}
    quiet = silent_words() | told
    order = [part for word in expression.words for part in word.split()]
    return Heard(
        tuple(dict.fromkeys(word for word in order if word in used and word not in ("the", "a", "an"))),
        tuple(dict.fromkeys(word for word in order if word not in used and word not in quiet and len(word) > 1)),
        tuple(dict.fromkeys(read_as)),
    )


def _noun(phrase: Phrase, meaning_of: MeaningOf | None) -> str | None:
    """The noun that gives a phrase its meaning; None where none does, "" where it has none and needs none."""
    if meaning_of is not None:
        meaning = meaning_of(phrase)
        if meaning is None:
            return ""
        return meaning.word if meaning.known else None
    if phrase.head:
        return "" if phrase.head in PRONOUNS else phrase.head
    return phrase.traits[-1] if phrase.traits else None if phrase.unknown else ""


def _collect(phrase: Phrase, used: set[str], meaning_of: MeaningOf | None) -> list[tuple[str, str]]:
    """Add the words of a phrase; returns what was read as something else."""
    noun = _noun(phrase, meaning_of)
    spoken = [noun or "", phrase.size, *phrase.colours, *phrase.not_colours]
    if noun:
        spoken += phrase.also
    if phrase.colours or phrase.not_colours:
        spoken += phrase.traits
    used |= {word for name in spoken for word in name.split()}
    read_as = [] if phrase.excluded is None else _collect(phrase.excluded, used, meaning_of)
    for link in phrase.relations:
        if _counts(link, meaning_of):
            used |= set(link.said) - (ACTIONS - POSSESSING) - READ_AS_WITH
            read_as += [(word, "with") for word in link.said if word in READ_AS_WITH]
            for anchor in link.anchors:
                read_as += _collect(anchor, used, meaning_of)
    return read_as


def _counts(link: Relation, meaning_of: MeaningOf | None) -> bool:
    """Whether a relation is evaluated: every anchor means something, or is placed."""
    for anchor in link.anchors:
        noun = _noun(anchor, meaning_of)
        if noun is None or (not noun and not anchor.places and not anchor.rank):
            return False
    return True
