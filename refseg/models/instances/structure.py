"""What expressions are parsed into: phrases with nouns, colours, places, order, size, number, relations, exclusion."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Expression", "Notes", "Phrase", "Place", "Rank", "Relation"]


@dataclass(frozen=True)
class Place:
    """A side (left, right, top, bottom, middle, near, far) or, as "clock", an hour (1 to 12) seen from the middle.

    `strong`: the outermost is meant ("far left"). `half`: said as a part of the picture ("on the left").
    """

    side: str
    strong: bool = False
    half: bool = False
    hour: int = 0


@dataclass(frozen=True)
class Rank:
    """The `number`-th from a side (from 1)."""

    number: int
    side: str


@dataclass(frozen=True)
class Relation:
    """How the phrase stands to another one: a name of `vocabulary.LINKS`; of "between" there may be two anchors.

    `negated`: it is said not to hold ("without an umbrella"). `said` are the words of the link ("holding").
    """

    kind: str
    anchors: tuple[Phrase, ...]
    negated: bool = False
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phrase:
    """One noun phrase. `head` is its noun ("" where none is said), `also` further nouns that say less about it.

    `many`: several may be meant; `count`: how many (0: not said). `size` is a word of `vocabulary.SIZES`. `traits` are
    what it has or wears without being found by itself ("shirt", "hair"). `unknown` are words that may be its noun,
    `not_colours` colours that it is said not to have ("not in red").
    """

    head: str = ""
    also: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    size: str = ""
    places: tuple[Place, ...] = ()
    rank: Rank | None = None
    count: int = 0
    many: bool = False
    relations: tuple[Relation, ...] = ()
    traits: tuple[str, ...] = ()
    excluded: Phrase | None = None
    unknown: tuple[str, ...] = ()
    not_colours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """A parsed expression: the union of its phrases.

    `used` and `ignored` are its words as far as the parser alone can tell (`heard` knows the nouns' meanings,
    too). `unchecked` are negations that nothing here can check, in words ("without a collar"). Slips and `read_as` are
    pairs of what is written and as what it was read; the latter are actions ("eating" as "with"). `words` are all that
    were read, slips corrected, and `placed` those of places, order, number and links.
    """

    text: str
    phrases: tuple[Phrase, ...]
    used: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    slips: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    unchecked: tuple[str, ...] = ()
    read_as: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    placed: tuple[str, ...] = ()


@dataclass
class Notes:
    """What becomes of each word while an expression is read."""

    used: list[str] = field(default_factory=list)
    """Words of places, order, number and links; nouns, colours and sizes are those of the phrases (`heard`)."""
    unchecked: list[str] = field(default_factory=list)
