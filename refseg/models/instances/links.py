"""What links say of a noun phrase: "next to", "in", "of", "without" with the words that follow each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from refseg.models.instances.phrases import simple_phrase
from refseg.models.instances.structure import Notes, Phrase, Place, Rank, Relation
from refseg.models.instances.vocabulary import (
    ACTIONS,
    COLOUR_WORDS,
    CONTAINERS,
    FILLERS,
    GARMENTS,
    LOOKS,
    PARTITIVES,
    PARTS,
    PICTURE,
    PRONOUNS,
    SIDES,
    SIZES,
)
from refseg.models.instances.words import is_certain, is_noun, is_trait

__all__ = ["Segment", "linked"]

_NEGATABLE = (
    "next_to",
    "nearest",
    "on",
    "in",
    "under",
    "behind",
    "in_front_of",
    "with",
    "left_of",
    "right_of",
    "above",
)


@dataclass
class Segment:
    """A link's name, its words, and the words that follow it."""

    name: str = ""
    said: tuple[str, ...] = ()
    words: list[str] = field(default_factory=list)


def linked(phrase: Phrase, segment: Segment, following: Segment, notes: Notes, depth: int) -> tuple[Phrase, int]:
    """The phrase with one link more; how many of the following segments were read too."""
    name, inner, said = segment.name, segment.words, segment.said
    if name == "without":
        return _without(phrase, segment, following, notes)
    if not inner and name in ("with", "wearing", "next_to", "in", "on", "to", "of", "from"):
        return phrase, 0
    if name == "facing":
        return phrase, 0
    if name in ("to", "from"):
        side = _side_of(inner)
        if name == "from" and side is not None and phrase.rank is not None:
            notes.used += ["from", *inner]
            return replace(phrase, rank=Rank(phrase.rank.number, side.side)), 0
        inside = simple_phrase(inner, Notes())
        notes.used += [word for word in inner if word in SIDES and inside.places]
        return replace(phrase, places=phrase.places + _halves(inside.places)), 0
    absolute = not inner or all(word in PICTURE or word in FILLERS for word in inner)
    if absolute and name in ("behind", "in_front_of", "left_of", "right_of", "nearest", "of"):
        nearby = {
            "behind": "far",
            "in_front_of": "near",
            "left_of": "left",
            "right_of": "right",
            "nearest": "near",
        }.get(name)
        notes.used += said
        if nearby is None:
            return phrase, 0
        if following.name == "of" and all(word in PICTURE or word in FILLERS for word in following.words):
            return replace(phrase, places=(*phrase.places, Place(nearby, half=True))), 1
        return replace(phrase, places=(*phrase.places, Place(nearby, half=nearby in ("left", "right")))), 0
    eaten = 0
    if following.name == "of" and (set(inner) & (PARTITIVES | CONTAINERS | {"side", "hand"})) and not _has_thing(inner):
        # "on the left side of the table", "in the corner of the picture"
        eaten = 1
        sides = [word for word in inner if word in ("left", "right")]
        picture = all(word in PICTURE or word in FILLERS for word in following.words)
        if not picture and sides and name in ("on", "in", "to"):
            return _related(phrase, f"{sides[0]}_of", (sides[0],), following.words, notes), eaten
        if not picture:
            inner = [*inner, *following.words] if not sides else inner
    if name in ("wearing", "in") and [word for word in inner if word not in FILLERS] == ["orange"]:
        notes.used += said
        return replace(phrase, colours=(*phrase.colours, "orange")), 0
    lead = _leading_place(inner)
    rest: list[str] = []
    if name in ("on", "in", "next_to", "to") and lead < len(inner):
        inner, rest = inner[:lead], inner[lead:]  # "guy on left getting food"
    if rest:
        phrase = _merged(phrase, simple_phrase(rest, notes))
    inside = simple_phrase(list(inner), notes)
    if name in ("on", "in", "next_to") and not inside.head and not inside.unknown and not inside.traits:
        # "on the left", "in the middle", "at the back", "in red"
        places = _halves(inside.places)
        rank = phrase.rank or inside.rank
        return replace(
            phrase,
            places=phrase.places + places,
            colours=phrase.colours + inside.colours,
            rank=rank,
            size=phrase.size or inside.size,
        ), eaten
    if name == "of":
        return _of(phrase, inner, notes), eaten
    if not inside.head and inside.unknown and name in ("with", "of"):
        inside = replace(inside, colours=())  # the colour is that of a thing nobody knows
    wears = not inside.head or inside.head in GARMENTS or inside.head in PARTS
    if inside.head in PRONOUNS and inside.traits:
        inside, wears = replace(inside, head=""), True
    if name in ("wearing", "with", "in") and wears:
        if inside.colours:
            notes.used += said
        traits = phrase.traits + inside.traits + ((inside.head,) if inside.head else ())
        return replace(
            phrase,
            colours=phrase.colours + inside.colours,
            traits=traits,
            places=phrase.places + inside.places,
            many=phrase.many,
            unknown=phrase.unknown,
        ), eaten
    if name in ("on", "next_to", "in") and wears and inside.places:
        return replace(
            phrase, places=phrase.places + _halves(inside.places), traits=phrase.traits + inside.traits
        ), eaten
    if depth < 3:
        kind = "with" if name == "wearing" else name
        return _related(phrase, kind, said, inner, notes), eaten
    return phrase, eaten


def _without(phrase: Phrase, segment: Segment, following: Segment, notes: Notes) -> tuple[Phrase, int]:
    """The phrase with what it is said not to be or to have: a colour, a thing that can be found, a relation to one.

    Other negations are noted as unchecked, word by word. Returns how many of the following segments were read, too.
    """
    inner, said = segment.words, segment.said
    if not inner and following.name in _NEGATABLE and _has_thing(following.words):  # "not next to the car"
        link = _related(Phrase(head="thing"), following.name, following.said, following.words, notes).relations
        if link and all(is_certain(anchor.head) for anchor in link[-1].anchors):
            negated = replace(link[-1], negated=True, said=(*said, *following.said))
            return replace(phrase, relations=(*phrase.relations, negated)), 1
    if not inner and following.name:
        notes.unchecked.append(" ".join([*said, *following.said, *following.words]))
        return phrase, 1
    inside = simple_phrase(inner, Notes())
    placed = bool(inside.places or inside.rank or inside.size or inside.count)
    worn = not inside.head or inside.head in PRONOUNS or is_trait(inside.head)
    unseen = any(word in ACTIONS or word in LOOKS for word in inner)
    if inside.colours and worn and not (placed or unseen or inside.unknown):
        notes.used += said
        traits = (*inside.traits, *((inside.head,) if is_trait(inside.head) else ()))
        return replace(phrase, not_colours=phrase.not_colours + inside.colours, traits=phrase.traits + traits), 0
    if is_certain(inside.head) and not (worn or inside.traits or placed or unseen or inside.unknown or inside.also):
        if said not in (("not",), ("minus",)):
            without = Relation("with", (inside,), negated=True, said=said)
            return replace(phrase, relations=(*phrase.relations, without)), 0
        if phrase.head and phrase.excluded is None:  # "the animal that is not a dog"
            notes.used += said
            return replace(phrase, excluded=replace(inside, many=True)), 0
    if inside.head and not worn and not phrase.head and inside.traits:  # "no hat guy"
        at = max(place for place, word in enumerate(inner) if is_trait(word)) + 1
        notes.unchecked.append(" ".join([*said, *inner[:at]]))
        return _merged(phrase, simple_phrase(inner[at:], notes)), 0
    notes.unchecked.append(" ".join([*said, *inner]))
    return phrase, 0


def _leading_place(words: list[str]) -> int:
    """How many words at the front are a place by itself ("the left side | getting food"); all of them where what
    follows continues it ("left chair")."""
    at = 0
    while at < len(words) and words[at] in ("the", "far", "very"):
        at += 1
    start = at
    while at < len(words) and (words[at] in SIDES or words[at] in ("side", "corner", "hand", "part", "of", "edge")):
        at += 1
    if at == start or at == len(words) or is_noun(words[at]) or words[at] in COLOUR_WORDS or words[at] in SIZES:
        return len(words)
    return at


def _merged(phrase: Phrase, more: Phrase) -> Phrase:
    """What follows a place adds to the phrase: colours and garments, further nouns, words nobody knows."""
    worn = more.head in GARMENTS or more.head in PARTS or not more.head
    return replace(
        phrase,
        head=phrase.head or more.head,
        also=phrase.also if worn or not phrase.head else (*phrase.also, more.head),
        colours=phrase.colours + (more.colours if worn or not phrase.head else ()),
        traits=phrase.traits + more.traits + ((more.head,) if worn and more.head else ()),
        places=phrase.places + more.places,
        rank=phrase.rank or more.rank,
        size=phrase.size or more.size,
        unknown=phrase.unknown + more.unknown,
    )


def _related(phrase: Phrase, kind: str, said: tuple[str, ...], inner: list[str], notes: Notes) -> Phrase:
    if kind == "between" and "and" in inner:
        cut = inner.index("and")
        anchors = tuple(simple_phrase(part, notes) for part in (inner[:cut], inner[cut + 1 :]) if part)
    else:
        anchors = (simple_phrase(list(inner), notes),)
    anchors = tuple(
        replace(anchor, head=phrase.head, also=phrase.also) if anchor.head in PRONOUNS and phrase.head else anchor
        for anchor in anchors
    )
    # A place after the object belongs to the whole: "man next to bus left".
    if len(anchors) == 1 and anchors[0].places and anchors[0].head and inner[-1] in SIDES:
        last = anchors[0].places[-1]
        phrase = replace(phrase, places=(*phrase.places, last))
        anchors = (replace(anchors[0], places=anchors[0].places[:-1]),)
    if not any(anchor.head or anchor.unknown or anchor.traits for anchor in anchors):
        extra = tuple(place for anchor in anchors for place in anchor.places)
        return replace(phrase, places=phrase.places + extra)
    return replace(phrase, relations=(*phrase.relations, Relation(kind, anchors, said=said)))


def _of(phrase: Phrase, inner: list[str], notes: Notes) -> Phrase:
    """X of Y: Y if X is a part or an amount, X otherwise ("bowl of rice", "back of the man")."""
    inside = simple_phrase(inner, notes)
    if not phrase.head and inside.head in PARTS:  # "back of head"
        return replace(
            phrase, traits=(*phrase.traits, inside.head), places=tuple(p for p in phrase.places if p.side != "far")
        )
    partitive = not phrase.head or phrase.head in PARTITIVES or phrase.head in PARTS or phrase.head in PRONOUNS
    if all(word in PICTURE or word in FILLERS for word in inner):
        return replace(phrase, places=_halves(phrase.places))
    if partitive:
        one = phrase.head in ("piece", "slice", "half", "part", "bunch", "pair", "one") or phrase.size or phrase.rank
        many = phrase.many or (inside.many and not one)
        return replace(
            inside,
            places=phrase.places + inside.places,
            colours=phrase.colours + inside.colours,
            size=phrase.size or inside.size,
            rank=phrase.rank or inside.rank,
            count=phrase.count or inside.count,
            many=many,
            also=inside.also,
        )
    also = (*phrase.also, *((inside.head,) if inside.head else ()))
    return replace(phrase, also=also, places=phrase.places + inside.places, rank=phrase.rank or inside.rank)


def _halves(places: tuple[Place, ...]) -> tuple[Place, ...]:
    return tuple(replace(place, half=not place.strong and place.side in ("left", "right")) for place in places)


def _has_thing(words: list[str]) -> bool:
    return any(is_noun(word) and word not in PARTITIVES and word not in CONTAINERS for word in words)


def _side_of(words: list[str]) -> Place | None:
    for word in words:
        if word in SIDES:
            return Place(SIDES[word])
    return None
