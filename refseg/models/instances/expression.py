"""Referring expressions as structures: what is named, how it looks, where it is, and how it stands to other things.

    "second guy from the left in the red shirt next to the dog"
      -> Phrase(head="guy", rank=Rank(2, "left"), colours=("red",),
                relations=(Relation("next_to", (Phrase(head="dog"),)),))

The parser reads what people write: words in any order, no articles, abbreviations, slips. It never fails: what it
cannot place is listed in `Expression.ignored`. Slips are corrected for words outside every list only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from refseg.models.instances.links import Segment, linked
from refseg.models.instances.nouns import table
from refseg.models.instances.phrases import simple_phrase
from refseg.models.instances.structure import Expression, Notes, Phrase, Place, Rank, Relation
from refseg.models.instances.vocabulary import (
    ACTIONS,
    ANIMATE,
    ATTRIBUTIVE,
    COLOUR_WORDS,
    EXCLUDING,
    FILLERS,
    GARMENTS,
    NUMBERS,
    PARTS,
    POSSESSING,
    PRONOUNS,
    QUANTIFIERS,
    READ_AS_WITH,
    SIDES,
    SIZES,
)
from refseg.models.instances.words import (
    Meaning,
    common_word,
    is_noun,
    is_plural,
    is_trait,
    link_at,
    noun_in,
    repaired,
    silent_words,
    with_placed_names,
    words_of,
)

__all__ = ["MAX_WORDS", "Expression", "Heard", "MeaningOf", "Phrase", "Place", "Rank", "Relation", "heard", "parse"]

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


def read_phrase(words: list[str], notes: Notes, depth: int = 0) -> Phrase:
    """One noun phrase with its links: the words before the first link, then each link with what follows it."""
    segments = [Segment()]
    at = 0
    while at < len(words):
        link = link_at(words, at)
        if (
            link is not None
            and words[at] in ("nearest", "closest", "near", "closer")
            and len(segments) == 1
            and not _has_content(segments[0].words)
        ):
            link = None if link[1] == 1 else link  # "nearest dog", but "nearest to us"
        if link is not None and not _is_compound(words, at) and not _is_attribute(words, at, segments):
            segments.append(Segment(link[0], tuple(words[at : at + link[1]])))
            at += link[1]
            continue
        segments[-1].words.append(words[at])
        at += 1
    phrase = simple_phrase(segments[0].words, notes)
    at = 1
    while at < len(segments):
        segment = segments[at]
        if (
            segment.name in ("wearing", "with", "in")
            and phrase.relations
            and _dresses(segment.words, phrase.relations[-1])
        ):
            *others, last = phrase.relations
            anchor, _ = linked(last.anchors[-1], segment, Segment(), notes, 3)
            last = replace(last, anchors=(*last.anchors[:-1], anchor))
            phrase = replace(phrase, relations=(*others, last))
            at += 1
            continue
        following = segments[at + 1] if at + 1 < len(segments) else Segment()
        phrase, eaten = linked(phrase, segment, following, notes, depth)
        at += 1 + eaten
    return phrase


def _dresses(inner: list[str], last: Relation) -> bool:
    """Whether what is worn is worn by the person that the last relation named: "behind the man in red"."""
    person = table().get(last.anchors[-1].head, {}).get("person", 0.0) >= 0.9
    nouns = [word for word in inner if is_noun(word)]
    worn = all(is_trait(noun) for noun in nouns) and any(word in COLOUR_WORDS or is_trait(word) for word in inner)
    return person and worn and not any(word in SIDES and word not in GARMENTS for word in inner)


def _has_content(words: list[str]) -> bool:
    return any(word not in FILLERS and word not in COLOUR_WORDS and word not in NUMBERS for word in words)


def _is_compound(words: list[str], at: int) -> bool:
    """Whether a word that could link is part of a name ("baseball bat on", "playing card") or of a side."""
    return words[at] == "front" or (words[at] == "no" and at + 1 < len(words) and words[at + 1] == "one")


def _is_attribute(words: list[str], at: int, segments: list[Segment]) -> bool:
    """Whether an action that could link is said of the person or animal right after it ("eating bear")."""
    if words[at] not in ATTRIBUTIVE or len(segments) > 1 or noun_in(segments[0].words) or at + 1 >= len(words):
        return False
    classes = table().get(words[at + 1], {})
    return any(share >= 0.9 and name in ANIMATE for name, share in classes.items())


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
