"""One noun phrase: the words before its first link, then each link ("next to", "in", "of") with what follows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from refseg.models.instances.lookup import HOUR, is_certain, is_noun, is_plural, is_trait, link_at, noun_in
from refseg.models.instances.structure import Notes, Phrase, Place, Rank, Relation
from refseg.models.instances.vocabulary import (
    ACTIONS,
    ANIMATE,
    ATTRIBUTIVE,
    COLOUR_WORDS,
    CONTAINERS,
    FILLERS,
    GARMENTS,
    LOOKS,
    NUMBERS,
    ORDINALS,
    PARTITIVES,
    PARTS,
    PATTERNS,
    PICTURE,
    PRONOUNS,
    QUANTIFIERS,
    SIDES,
    SIZES,
    STRONG,
)
from refseg.models.instances.words import table

__all__ = ["BODY_SIDES", "NOT_PLACES_AFTER", "read_phrase"]

_AFTER_ADVERB = frozenset(("in", "over", "alone", "around", "the", "about", "by", "dressed", ""))
NOT_PLACES_AFTER = frozenset(("facing", "looking", "turned", "his", "her", "their", "its"))
_TOPS = frozenset(("tank", "crop", "halter", "counter", "stove", "a"))
BODY_SIDES = frozenset(
    ("arm", "leg", "foot", "eye", "ear", "knee", "shoulder", "elbow", "paw", "wing", "wrist", "horn")
)


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
class _Segment:
    """A link's name, its words, and the words that follow it."""

    name: str = ""
    said: tuple[str, ...] = ()
    words: list[str] = field(default_factory=list)


def read_phrase(words: list[str], notes: Notes, depth: int = 0) -> Phrase:
    """One noun phrase with its links: the words before the first link, then each link with what follows it."""
    segments = [_Segment()]
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
            segments.append(_Segment(link[0], tuple(words[at : at + link[1]])))
            at += link[1]
            continue
        segments[-1].words.append(words[at])
        at += 1
    phrase = _simple(segments[0].words, notes)
    at = 1
    while at < len(segments):
        segment = segments[at]
        if (
            segment.name in ("wearing", "with", "in")
            and phrase.relations
            and _dresses(segment.words, phrase.relations[-1])
        ):
            *others, last = phrase.relations
            anchor, _ = _linked(last.anchors[-1], segment, _Segment(), notes, 3)
            last = replace(last, anchors=(*last.anchors[:-1], anchor))
            phrase = replace(phrase, relations=(*others, last))
            at += 1
            continue
        following = segments[at + 1] if at + 1 < len(segments) else _Segment()
        phrase, eaten = _linked(phrase, segment, following, notes, depth)
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


def _is_attribute(words: list[str], at: int, segments: list[_Segment]) -> bool:
    """Whether an action that could link is said of the person or animal right after it ("eating bear")."""
    if words[at] not in ATTRIBUTIVE or len(segments) > 1 or noun_in(segments[0].words) or at + 1 >= len(words):
        return False
    classes = table().get(words[at + 1], {})
    return any(share >= 0.9 and name in ANIMATE for name, share in classes.items())


def _linked(phrase: Phrase, segment: _Segment, following: _Segment, notes: Notes, depth: int) -> tuple[Phrase, int]:
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
        inside = _simple(inner, Notes())
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
        phrase = _merged(phrase, _simple(rest, notes))
    inside = _simple(list(inner), notes)
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


def _without(phrase: Phrase, segment: _Segment, following: _Segment, notes: Notes) -> tuple[Phrase, int]:
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
    inside = _simple(inner, Notes())
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
        return _merged(phrase, _simple(inner[at:], notes)), 0
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
        anchors = tuple(_simple(part, notes) for part in (inner[:cut], inner[cut + 1 :]) if part)
    else:
        anchors = (_simple(list(inner), notes),)
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
    inside = _simple(inner, notes)
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


def _simple(words: list[str], notes: Notes) -> Phrase:
    """A phrase without links: every word by its list, nouns by their groups."""
    places: list[Place] = []
    colours: list[str] = []
    size, rank, count, many = "", 0, 0, False
    groups: list[list[str]] = [[]]
    unknown: list[str] = []
    skip_side = False
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        before = words[at - 1] if at else ""
        phrase_two = f"{before} {word}"
        if word.startswith(HOUR) and word[len(HOUR) :].isdigit():
            places.append(Place("clock", hour=int(word[len(HOUR) :])))
            notes.used.append(word)
        elif word == "all" and (following == "you" or (groups[0] and following in _AFTER_ADVERB)):
            continue  # "man all in black", "all you see"
        elif word in QUANTIFIERS:
            many = True
            count = 2 if word == "both" else count
            notes.used.append(word)
            if word in ("everyone", "everybody"):
                groups[-1].append(word)
        elif word in ORDINALS and _is_rank(words, at):
            rank = ORDINALS[word]
            notes.used.append(word)
        elif word in NUMBERS:
            if before == "number":
                rank = NUMBERS[word]
            else:
                count, many = NUMBERS[word], True
            notes.used.append(word)
        elif word in SIDES and not skip_side:
            if _is_place(words, at):
                strong = before in STRONG or (word.endswith(("most", "est")) and SIDES[word] in ("left", "right"))
                strong = strong or (
                    before == "the" and at >= 2 and words[at - 2] in ("to", "furthest", "farthest", "way")
                )
                if places and before in ("farthest", "furthest") and SIDES[word] in ("left", "right"):
                    places.pop()  # "furthest left" is no depth
                places.append(Place(SIDES[word], strong, half=following in ("side", "hand")))
                notes.used.append(word)
            elif word in table() and word not in ("back", "front"):
                groups[-1].append(word)
        elif word in STRONG and following in SIDES:
            continue
        elif word == "far":
            places.append(Place("far"))
            notes.used.append(word)
        elif (
            word in COLOUR_WORDS
            and not (word == "orange" and not _names(words[at + 1 :]) and not groups[0])
            and not (phrase_two in table() and groups[-1][-1:] == [before])  # "the traffic light"
        ):
            if word in ("dark", "light", "bright") and following in COLOUR_WORDS:
                continue
            colours.append(word)
            if groups[-1]:
                groups.append([])
        elif word in SIZES and not (word == "baby" and not noun_in(words[at + 1 :])):
            size = size or word
            if groups[-1]:
                groups.append([])
        elif phrase_two in table() and before and groups[-1] and groups[-1][-1] == before:
            groups[-1][-1] = phrase_two
        elif is_noun(word):
            groups[-1].append(word)
        elif word in FILLERS or word == "," or word in PICTURE:
            if word == "," and groups[-1]:
                groups.append([])
        elif f"{word} {following}" in table():
            groups[-1].append(word)  # first word of a two-word name
        else:
            unknown.append(word)
            if groups[-1]:
                groups.append([])
    return _with_nouns(
        [group for group in groups if group],
        unknown,
        words,
        notes,
        Phrase(
            colours=tuple(colours),
            size=size,
            places=tuple(dict.fromkeys(places)),
            rank=Rank(rank, _rank_side(words, places)) if rank else None,
            count=count,
            many=many,
        ),
    )


def _names(words: list[str]) -> bool:
    """Whether something is named that a colour before it is said of; a top is, at the end."""
    return noun_in(words) or words[-1:] == ["top"]


def _is_rank(words: list[str], at: int) -> bool:
    """An ordinal orders; "second" at the end too ("the second")."""
    return not (words[at] == "second" and at + 1 < len(words) and words[at + 1] == "hand")


def _rank_side(words: list[str], places: list[Place]) -> str:
    for place in places:
        if place.side in ("left", "right", "top", "bottom", "near", "far"):
            return place.side
    return "left"


def _is_place(words: list[str], at: int) -> bool:
    """Whether a word of a side places the thing, and does not tell of its body or where it looks."""
    before = words[at - 1] if at else ""
    following = words[at + 1] if at + 1 < len(words) else ""
    word = words[at]
    if word in ("l", "r") and not (at == 0 or at == len(words) - 1):
        return False
    if before in NOT_PLACES_AFTER:
        return False
    if word in ("left", "right") and following in BODY_SIDES:
        return False
    if word in ("left", "right") and following in ("hand", "hands"):
        third = words[at + 2] if at + 2 < len(words) else ""
        named = bool(third) and (is_noun(third) or third in ("side", "corner", "picture", "most"))
        return named or before in SIDES or at + 2 == len(words)
    if word == "back" and (
        following in ("to", "turned", "facing", "of", "is", "end", "pack", "seat") or before in ("with", "s")
    ):
        return False
    if word in ("upper", "lower") and (following in PARTS or following in ("half", "part")):
        return False
    if word == "top" and (before in COLOUR_WORDS or before in PATTERNS or before in _TOPS):
        return False
    return not (word == "right" and following in ("next", "by", "beside", "behind", "there", "here"))


def _with_nouns(groups: list[list[str]], unknown: list[str], words: list[str], notes: Notes, phrase: Phrase) -> Phrase:
    """Choose the head among groups of adjacent nouns: the last noun of the first group with a thing in it; garments and
    parts are traits of what else is named."""
    things = [group for group in groups if any(not is_trait(noun) for noun in group)]
    traits = [noun for group in groups for noun in group if is_trait(noun)]
    if not things:
        head = traits[-1] if traits else ""
        many = phrase.many or (phrase.count > 1)
        return replace(phrase, head=head, traits=tuple(traits[:-1]), many=many, unknown=tuple(unknown))
    group = [noun for noun in things[0] if not is_trait(noun)]
    head = group[-1]
    if head in PRONOUNS and len(group) > 1:
        head = group[-2]
    if head in PARTITIVES and len(group) > 1:
        head, group = group[-2], group[:-1]
    also = [noun for noun in group[:-1] if noun != head] + [
        noun for other in things[1:] for noun in other if not is_trait(noun) and noun != head
    ]
    many = phrase.many or is_plural(head)
    if head in ("family", "crowd", "group", "team", "couple"):
        many = True
    singular_said = any(word in ("a", "an", "one", "each", "every") for word in words[:1])
    if singular_said and not phrase.count and words[0] in ("a", "an"):
        many = many and is_plural(head)
    return replace(phrase, head=head, also=tuple(also), traits=tuple(traits), many=many, unknown=tuple(unknown))
